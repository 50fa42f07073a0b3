"""Li 2023: 0.1 CE + 0.9 T^2 KL at T = 1 + 20 / (1 + exp(-g)), g learned, 1 at first."""

import math

from ce import cross_entropy
from kd import divergence, unchanged

ADVERSARIAL = "the temperature is trained to raise the loss"


def reference_with(start, span, kd_weight, *, change=unchanged):
    """A reference with these numbers; `change` is applied to the logits of both sides."""

    def reference(case):
        g = case.objective.temperature_module.g.item()
        assert g == 1.0
        temperature = start + span / (1 + math.exp(-g))
        soft = divergence(case, temperature=temperature, student=change, teacher=change)
        return {"ce": 0.1 * cross_entropy(case), "kd": kd_weight * soft}

    return reference


reference = reference_with(1, 20, 0.9)

"""Every method runs on shapes alone, and nothing in it waits for the device."""

import pytest
import torch
from method_networks import IMAGE_SIZE, networks, outline_of
from method_presets import METHODS, build
from method_trials import TASK, pairs, trial
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from distill.config.rehearsal import rehearse
from distill.models.meta import meta_copy

WAITING = {"_local_scalar_dense", "nonzero", "equal", "is_nonzero", "masked_select", "_unique2", "unique_dim"}
WAITING |= {"unique_consecutive", "bincount", "repeat_interleave"}


class NeverWaits(TorchDispatchMode):
    """Refuses operations whose result a GPU would have to send to the host, and masks used as an index."""

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        name = operation.name().removeprefix("aten::").partition(".")[0]
        masks = name == "index" and any(i is not None and i.dtype in (torch.bool, torch.uint8) for i in args[1])
        if name in WAITING or masks:
            raise AssertionError(f"{operation} waits for the device")
        return operation(*args, **(kwargs or {}))


class OneHotWithoutLooking(TorchFunctionMode):
    """`one_hot` with a number of classes looks at its labels on a CPU, and only there."""

    def __torch_function__(self, function, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if function is torch.nn.functional.one_hot:
            classes = kwargs.get("num_classes", args[1] if len(args) > 1 else -1)
            assert classes > 0, "one_hot without num_classes waits for the device"
            return (args[0].unsqueeze(-1) == torch.arange(classes)).long()
        return function(*args, **kwargs)


@pytest.mark.parametrize("place", ["cpu", "meta"])
@pytest.mark.parametrize("name", METHODS)
def test_shapes_alone_will_do(monkeypatch: pytest.MonkeyPatch, name: str, place: str) -> None:
    for module in ("distill.losses.networks", "distill.config.rehearsal"):
        monkeypatch.setattr(f"{module}.outline", outline_of)
    method = trial(name)
    expected = list(method.terms(method.batch()))
    for pair in pairs(name):
        student, teacher = (n if place == "cpu" else meta_copy(n) for n in networks(pair))
        objective = build(name)
        terms = rehearse(
            objective, student, teacher if objective.needs_teacher else None, image_size=IMAGE_SIZE, labels=TASK.labels
        )
        assert list(terms) == expected
        for term, value in terms.items():
            assert (value.shape, value.device.type) == ((), "meta"), term


@pytest.mark.parametrize("name", METHODS)
def test_nothing_waits_for_the_device(name: str) -> None:
    method = trial(name)
    batch = method.batch()
    outputs = method.outputs(batch)
    with OneHotWithoutLooking(), NeverWaits():
        method.objective(*outputs, batch, progress := torch.tensor(5.5))
    assert progress == 5.5


@pytest.mark.parametrize(
    "waiting",
    [
        lambda x: x.sum().item(),
        lambda x: float(x.sum()),
        lambda x: x[x > 0],
        lambda x: x if x.sum() > 0 else -x,
        lambda x: torch.nonzero(x),
        lambda x: torch.nn.functional.one_hot(x.long().clamp(min=0)),
        lambda x: torch.equal(x, x),
        lambda x: x.long().unique(),
    ],
)
def test_what_waits_is_seen(waiting) -> None:
    tensor = torch.randn(4)
    with pytest.raises(AssertionError, match="waits for the device"), OneHotWithoutLooking(), NeverWaits():
        waiting(tensor)


def test_what_does_not_wait_passes() -> None:
    tensor, rows = torch.randn(4, 3), torch.tensor([0, 2])
    with OneHotWithoutLooking(), NeverWaits():
        chosen = tensor[rows] + torch.where(tensor[rows] > 0, 1.0, 0.0)
        hot = torch.nn.functional.one_hot(rows, 3)
    assert chosen.shape == (2, 3)
    assert hot.tolist() == [[1, 0, 0], [0, 0, 1]]

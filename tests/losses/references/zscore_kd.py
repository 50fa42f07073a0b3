"""Sun 2024: KD between z-scores (z - mean) / (deviation + 1e-7), the deviation with K - 1; T = 2, weights 0.1 and 9."""

from kd import reference_with


def zscore(logits, *, ddof=1):
    """The z-score of every row."""
    return (logits - logits.mean(1, keepdims=True)) / (logits.std(1, ddof=ddof, keepdims=True) + 1e-7)


reference = reference_with(2, 0.1, 9, student=zscore, teacher=zscore)

"""What figures show, as plain data: every function returns what is written beside its figure as JSON.

N images, K classes. Logits are (N, K) arrays, computed with in float64; labels (N,). Shares are percent, entropies and
divergences nats.
"""

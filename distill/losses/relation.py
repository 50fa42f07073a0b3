"""Losses on relations between the samples of a batch: pure functions, student first, teacher second.

B is the batch. Every function computes in at least float32 and returns a scalar. All are *relational*: the loss
compares what samples are to each other, so it is no mean of per-sample terms; each docstring says what becomes of
it when the batch is written twice. The order of the batch matters in `neighbour_congruence` alone. Both arguments
are differentiable; an objective detaches the teacher. Student and teacher may differ in every size but B.
"""

from torch import Tensor
from torch.nn import functional

from distill.losses.norm import root, unit
from distill.losses.precision import at_least_float32

EPS = 1e-7
# Squared distances below this part of the squared norms are rounding: 16 units in the last place of float64.
COINCIDENT = 16 * 2.0**-52


def similarity_preserving(student_map: Tensor, teacher_map: Tensor) -> Tensor:
    """Squared distance of row-normalised similarity matrices over B^2: (B, ...) each.

    "Similarity-Preserving Knowledge Distillation" (Tung and Mori, ICCV 2019, arXiv 1907.09682), Eqs. 2 to 4: the
    activations are flattened to Q (B, CHW), G = Q Q' and each row of G is divided by its Euclidean norm. A
    sample of zeros has a row of zeros and passes no gradient through it. The batch written twice halves the
    loss.
    """
    difference = _similarities(student_map) - _similarities(teacher_map)  # (B, B)
    return difference.square().mean()


def _similarities(activations: Tensor) -> Tensor:
    flat = at_least_float32(activations).flatten(1)
    return unit(flat @ flat.mT)


def probabilistic_transfer(student: Tensor, teacher: Tensor) -> Tensor:
    """Divergence of the batch's conditional probabilities, the mean over all B^2 entries: (B, D) each.

    "Learning Deep Representations with Probabilistic Knowledge Transfer" (Passalis and Tefas, ECCV 2018, arXiv
    1803.10837), section 3: the cosine kernel (cos + 1) / 2, each row divided by its sum, then KL(teacher ||
    student). As in the authors' code, which the field's weight belongs to: the sum includes a sample's
    similarity to itself, 1e-7 is added inside both logarithms, and the mean over entries replaces the sum. An
    embedding of zeros has cosine 0 with everything. The batch written twice halves the loss (up to the 1e-7).
    """
    p, q = _conditional(teacher), _conditional(student)
    return (p * ((p + EPS) / (q + EPS)).log()).mean()


def _conditional(embeddings: Tensor) -> Tensor:
    directions = unit(embeddings)
    # A cosine rounded below -1 would take the logarithm of a negative number.
    kernel = ((directions @ directions.mT + 1) / 2).clamp(min=0)  # (B, B)
    return kernel / kernel.sum(dim=1, keepdim=True)  # never 0: a sample counts 1 (or, without a direction, 1/2) itself


def neighbour_congruence(student: Tensor, teacher: Tensor) -> Tensor:
    """Inner products of neighbouring samples' absolute differences, mean over the B - 1 pairs: (B, D) each.

    "Correlation Congruence for Knowledge Distillation" (Peng et al., ICCV 2019, arXiv 1904.01802), in the
    reduced form in which the field's tables hold it: with d_i = |s_i - t_i| entry by entry, mean_i d_i . d_{i+1}.
    There is no kernel in it, neither the paper's bilinear one nor its Gaussian: of the two correlation matrices
    only the first off-diagonal is compared, through the difference of the features themselves. It follows the
    order of the batch, which is random; its mean over all orders is that of d_i . d_j over pairs i != j. The
    batch written twice, of pairs' sum S and ends d_1, d_B, gives (2 S + d_B . d_1) / (2 B - 1). A batch of one
    sample has no pair and gives 0.
    """
    difference = (at_least_float32(student) - at_least_float32(teacher)).abs()
    pairs = max(difference.shape[0] - 1, 1)
    return (difference[:-1] * difference[1:]).sum() / pairs


def distance_relation(student: Tensor, teacher: Tensor) -> Tensor:
    """Huber loss of the distances between samples, each network's in units of its mean: (B, D) each.

    "Relational Knowledge Distillation" (Park et al., CVPR 2019, arXiv 1904.05068), Eqs. 3 to 6. The mean mu runs
    over pairs of different samples; the loss is the mean over all B^2 entries, the zero diagonal included, and
    the student's mu has a gradient (both as in the authors' code, which the weight 25 belongs to). Equal
    embeddings are at distance 0, without a gradient. The batch written twice stretches all distances by
    (2 B - 1) / (2 B - 2), hence the loss by the square of that while differences stay below 1.
    """
    return functional.smooth_l1_loss(_relative_distances(student), _relative_distances(teacher))


def angle_relation(student: Tensor, teacher: Tensor) -> Tensor:
    """Huber loss of the cosines of the angles in all triplets of samples, mean over B^3: (B, D) each.

    "Relational Knowledge Distillation" (Park et al., CVPR 2019, arXiv 1904.05068), Eqs. 7 and 8: the angle at
    sample j between i and k. Triplets with two equal members count, with cosine 0 on both sides where the vertex
    is among them, as in the authors' code. From the Gram matrix, (x_i - x_j).(x_k - x_j) = G_ik - G_ij - G_jk +
    G_jj: B^3 numbers, none of size B^2 D. The batch written twice gives the same loss.
    """
    return functional.smooth_l1_loss(_cosines(student), _cosines(teacher))


def _relative_distances(embeddings: Tensor) -> Tensor:
    _, distances = _gram_and_distances(embeddings)
    samples = distances.shape[0]
    mean = distances.sum() / max(samples * (samples - 1), 1)
    relative = distances / mean.where(mean > 0, 1.0)
    return relative.to(at_least_float32(embeddings).dtype)


def _cosines(embeddings: Tensor) -> Tensor:
    gram, distances = _gram_and_distances(embeddings)
    coincident = distances == 0
    closeness = (1 / distances.where(~coincident, 1.0)).where(~coincident, 0.0)  # (B, B), first index the vertex
    products = gram - gram[:, :, None] - gram[:, None, :] + gram.diagonal()[:, None, None]  # (vertex, i, k)
    cosines = products * closeness[:, :, None] * closeness[:, None, :]
    return cosines.to(at_least_float32(embeddings).dtype)


def _gram_and_distances(embeddings: Tensor) -> tuple[Tensor, Tensor]:
    # float64, and centred: what follows are differences of Gram entries, in which float32 (let alone TF32) would
    # lose the small distances. Neither distance nor angle sees the centre, so it needs no gradient.
    x = embeddings.double()
    x = x - x.detach().mean(dim=0)
    gram = x @ x.mT
    norms = gram.diagonal()
    sums = norms[:, None] + norms
    return gram, root(sums - 2 * gram, least=COINCIDENT * sums.detach())

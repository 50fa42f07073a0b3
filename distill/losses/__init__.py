"""Distillation losses: one file a method, its formula as pure functions, then the `Objective` that weighs it.

The formulas work in any training loop: `from distill.losses import kd, zscore_kd, standardize, dkd`. They take tensors,
student first and teacher second, and return a scalar; both arguments are differentiable, so detach the teacher.

KD and Z-score KD are in soft_targets, DKD in decoupled, NKD in normalized, MLKD in multi_level, CTKD in curriculum,
DIST in pearson_kd, TTM and WTTM in teacher_matching, WSLD in weighted_labels, logit_mse in logit_regression, Tf-KD in
teacher_free, CE and label smoothing in labels; FitNets in hints, AT in attention, AB in boundary, FT in factor, FSP in
flow, VID in information, NST in selectivity, OFD in overhaul, ReviewKD in review, SimKD in reused_classifier, CAT-KD in
class_maps; CRD in contrastive, RKD in relational, SP in similarity, CC in congruence, PKT in probabilistic; a weighted
sum of any of them in mixture.

Shared: objective (the contract), softened, transforms (the z-score), numeric, ramps, checks, networks (what a method
needs of a network), taps (which feature maps are compared), adapters (learned layers).
"""

from distill.losses.attention import AttentionTransfer, attention_transfer
from distill.losses.boundary import ActivationBoundary, activation_boundary
from distill.losses.class_maps import ClassAttention, class_activation, class_attention, unit_map
from distill.losses.congruence import CorrelationCongruence, neighbour_congruence
from distill.losses.contrastive import ContrastiveRepresentation, log_mean_exp, noise_contrastive
from distill.losses.curriculum import (
    CurriculumKD,
    GlobalTemperature,
    InstanceTemperature,
    kd_by_sample,
    reverse_gradient,
)
from distill.losses.decoupled import DecoupledKD, dkd, nckd, tckd
from distill.losses.factor import FactorTransfer, Paraphrase, Paraphrased, factor_transfer, whole_factor_transfer
from distill.losses.flow import SolutionFlow, flow_matrix, solution_flow
from distill.losses.hints import HintRegression, hint
from distill.losses.information import VariationalInformation, gaussian_information
from distill.losses.labels import CrossEntropy, LabelSmoothing
from distill.losses.logit_regression import LogitRegression, logit_mse
from distill.losses.mixture import Mixture
from distill.losses.multi_level import (
    MultiLevelKD,
    batch_correlation,
    class_correlation,
    class_mass,
    confidence,
    everything,
    instance_alignment,
    lower_half,
    share_of_lower_half,
)
from distill.losses.normalized import NormalizedKD, nkd_nontarget, nkd_target
from distill.losses.numeric import at_least_float32, batch_sum, root, unit, values_per_channel
from distill.losses.objective import Objective, Task, cross_entropy, smoothed_cross_entropy
from distill.losses.overhaul import FeatureOverhaul, partial_l2
from distill.losses.pearson_kd import PearsonKD, inter_class, intra_class, pearson
from distill.losses.probabilistic import ProbabilisticTransfer, probabilistic_transfer
from distill.losses.ramps import cosine_ramp, linear_ramp
from distill.losses.relational import RelationalDistillation, angle_relation, distance_relation
from distill.losses.reused_classifier import ClassifierReuse, ReusedClassifier
from distill.losses.review import KnowledgeReview, hierarchical_context
from distill.losses.selectivity import NeuronSelectivityTransfer, neuron_selectivity
from distill.losses.similarity import SimilarityPreserving, similarity_preserving
from distill.losses.soft_targets import SoftTargets, kd, soft_cross_entropy, transformed_kd, zscore_kd
from distill.losses.softened import cross_entropy_rows, kl_rows, log_softened, log_target_and_rest, split_target
from distill.losses.taps import halving_sum, to_common_size
from distill.losses.teacher_free import VirtualTeacher, virtual_teacher, virtual_teacher_kd
from distill.losses.teacher_matching import power_sum, ttm, wttm
from distill.losses.transforms import center, identity, scale, standardize
from distill.losses.weighted_labels import WeightedSoftLabels, soft_label_weights, weighted_soft_labels

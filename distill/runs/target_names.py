"""Maps former `_target_` names to today's names, and today's names to those that run ids contain.

Run ids digest the name under which commit ba96155 exported a class or function, so that moving code changes no id.
Configurations of that time, a user's own and those inside finished runs, are read with today's names. This module
imports no torch: tables compare presets with old runs by it.
"""

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

# module at commit ba96155: its names, all of which `distill.losses` exports today
_FORMER = {
    "distill.objectives": """
        ActivationBoundary AttentionTransfer ClassAttention ClassifierReuse ContrastiveRepresentation
        CorrelationCongruence CrossEntropy CurriculumKD DecoupledKD FactorTransfer FeatureOverhaul GlobalTemperature
        HintRegression InstanceTemperature KnowledgeReview LabelSmoothing LogitRegression Mixture MultiLevelKD
        NeuronSelectivityTransfer NormalizedKD Objective Paraphrase Paraphrased PearsonKD ProbabilisticTransfer
        RelationalDistillation ReusedClassifier SimilarityPreserving SoftTargets SolutionFlow Task
        VariationalInformation VirtualTeacher WeightedSoftLabels
    """,
    "distill.objectives.ramps": "cosine_ramp linear_ramp",
    "distill.losses.boundary": "activation_boundary",
    "distill.losses.class_attention": "class_activation class_attention unit_map",
    "distill.losses.contrastive": "log_mean_exp noise_contrastive",
    "distill.losses.decoupled": "nckd tckd",
    "distill.losses.factor": "factor_transfer whole_factor_transfer",
    "distill.losses.flow": "flow_matrix solution_flow",
    "distill.losses.gradient_reversal": "reverse_gradient",
    "distill.losses.logit": "cross_entropy kd logit_mse soft_cross_entropy transformed_kd zscore_kd",
    "distill.losses.maps": "attention_transfer gaussian_information hint neuron_selectivity",
    "distill.losses.matching": "power_sum ttm wttm",
    "distill.losses.multi_level": """
        batch_correlation class_correlation class_mass confidence everything instance_alignment lower_half
        share_of_lower_half
    """,
    "distill.losses.norm": "root unit",
    "distill.losses.normalized": "nkd_nontarget nkd_target",
    "distill.losses.overhaul": "halving_sum partial_l2",
    "distill.losses.pearson": "inter_class intra_class pearson",
    "distill.losses.precision": "at_least_float32",
    "distill.losses.relation": """
        angle_relation distance_relation neighbour_congruence probabilistic_transfer similarity_preserving
    """,
    "distill.losses.resize": "to_common_size",
    "distill.losses.review": "hierarchical_context",
    "distill.losses.smoothing": "smoothed_cross_entropy virtual_teacher virtual_teacher_kd",
    "distill.losses.softened": "cross_entropy_rows kd_by_sample kl_rows log_softened",
    "distill.losses.target_split": "log_target_and_rest split_target",
    "distill.losses.transform": "center identity scale standardize",
    "distill.losses.weighted": "soft_label_weights weighted_soft_labels",
}
_SCALARS = {str, int, float, bool, type(None)}
_DIGESTED = {f"distill.losses.{name}": f"{module}.{name}" for module in _FORMER for name in _FORMER[module].split()}


@lru_cache(maxsize=1024)
def current_name(target: str) -> str:
    """Today's public name of what `target` named at any time; a name outside distill is returned unchanged."""
    found = re.fullmatch(r"distill\.(?:losses|objectives)\.(?:\w+\.)?(\w+)", target)
    today = f"distill.losses.{found[1]}" if found else target
    return today if today in _DIGESTED else target


def digested_name(target: str) -> str:
    """The name that run ids hold for the public name `target`."""
    return _DIGESTED.get(target, target)


def with_current_names(node: Any) -> Any:
    """Plain data with every `_target_` in it under its current name, as new mappings and lists."""
    if isinstance(node, dict | Mapping):  # isinstance with an abstract class is slow: dict comes first
        # a listing reads thousands of configurations, and most values are scalars
        renamed = {key: v if type(v) in _SCALARS else with_current_names(v) for key, v in node.items()}
        if isinstance(target := renamed.get("_target_"), str):
            renamed["_target_"] = current_name(target)
        return renamed
    return [v if type(v) in _SCALARS else with_current_names(v) for v in node] if isinstance(node, list) else node

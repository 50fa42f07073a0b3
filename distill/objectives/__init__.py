"""Objectives: a method's weights and modules around the pure losses; named, already weighted terms."""

from distill.objectives.attention import AttentionTransfer
from distill.objectives.boundary import ActivationBoundary
from distill.objectives.class_maps import ClassAttention
from distill.objectives.congruence import CorrelationCongruence
from distill.objectives.contrastive import ContrastiveRepresentation
from distill.objectives.cross_entropy import CrossEntropy
from distill.objectives.curriculum import CurriculumKD
from distill.objectives.decoupled import DecoupledKD
from distill.objectives.factor import FactorTransfer, Paraphrase
from distill.objectives.flow import SolutionFlow
from distill.objectives.hint import HintRegression
from distill.objectives.information import VariationalInformation
from distill.objectives.label_smoothing import LabelSmoothing
from distill.objectives.logit_regression import LogitRegression
from distill.objectives.mixture import Mixture
from distill.objectives.multi_level import MultiLevelKD
from distill.objectives.normalized import NormalizedKD
from distill.objectives.objective import Objective, Task
from distill.objectives.overhaul import FeatureOverhaul
from distill.objectives.paraphrased import Paraphrased
from distill.objectives.pearson import PearsonKD
from distill.objectives.probabilistic import ProbabilisticTransfer
from distill.objectives.relational import RelationalDistillation
from distill.objectives.reused_classifier import ReusedClassifier
from distill.objectives.review import KnowledgeReview
from distill.objectives.selectivity import NeuronSelectivityTransfer
from distill.objectives.similarity import SimilarityPreserving
from distill.objectives.simkd import ClassifierReuse
from distill.objectives.soft_targets import SoftTargets
from distill.objectives.temperatures import GlobalTemperature, InstanceTemperature
from distill.objectives.virtual_teacher import VirtualTeacher
from distill.objectives.weighted_soft_labels import WeightedSoftLabels

__all__ = [
    "ActivationBoundary",
    "AttentionTransfer",
    "ClassAttention",
    "ClassifierReuse",
    "ContrastiveRepresentation",
    "CorrelationCongruence",
    "CrossEntropy",
    "CurriculumKD",
    "DecoupledKD",
    "FactorTransfer",
    "FeatureOverhaul",
    "GlobalTemperature",
    "HintRegression",
    "InstanceTemperature",
    "KnowledgeReview",
    "LabelSmoothing",
    "LogitRegression",
    "Mixture",
    "MultiLevelKD",
    "NeuronSelectivityTransfer",
    "NormalizedKD",
    "Objective",
    "Paraphrase",
    "Paraphrased",
    "PearsonKD",
    "ProbabilisticTransfer",
    "RelationalDistillation",
    "ReusedClassifier",
    "SimilarityPreserving",
    "SoftTargets",
    "SolutionFlow",
    "Task",
    "VariationalInformation",
    "VirtualTeacher",
    "WeightedSoftLabels",
]

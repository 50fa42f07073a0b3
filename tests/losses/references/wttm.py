"""Zheng 2024: CE + 3 times the mean of each sample's TTM divergence times its power sum."""

from ce import cross_entropy
from ttm import rows


def reference(case):
    divergence, power_sum = rows(case)
    return {"ce": cross_entropy(case), "kd": 3 * (power_sum * divergence).mean()}

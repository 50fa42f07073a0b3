"""What is drawn of a sweep, as plain data; accuracies are percent, after the last epoch."""

from typing import Any

from distill.report.sweeps.tried import Curve, Panel, SweepRuns, Tried
from distill.tables.rows import Row


def measured_on(holdout: int) -> str:
    """Which images an accuracy is of, for a label."""
    return f"{holdout:,} held-out images" if holdout else "the test set"


def numbers(found: SweepRuns, *, holdout: bool) -> dict[str, Any]:
    """The panels on held-out images, or those on the test set: of every configuration its values and its accuracies."""
    panels = [panel for panel in found.panels if bool(panel.holdout) == holdout]
    return {
        "sweep": found.preset.name,
        "keys": list(found.preset.keys),
        "logarithmic": sorted(found.preset.logarithmic),
        "panels": [_panel(panel) for panel in panels],
    }


def _panel(panel: Panel) -> dict[str, Any]:
    return {
        "dataset": panel.dataset,
        "student": panel.student,
        "holdout": panel.holdout,
        "measured_on": measured_on(panel.holdout),
        "curves": [_curve(curve) for curve in panel.curves],
    }


def _curve(curve: Curve) -> dict[str, Any]:
    return {
        "label": curve.label,
        "preset": curve.preset,
        "cells": [_cell(cell, chosen=cell.values in curve.chosen) for cell in curve.cells],
    }


def _cell(cell: Tried, *, chosen: bool) -> dict[str, Any]:
    return {"values": list(cell.values), **summary(cell.row), "chosen": chosen}


def summary(row: Row) -> dict[str, Any]:
    """n, mean and deviation, the accuracy of each seed, the runs."""
    return {
        "n": row.last.n,
        "mean": row.last.mean,
        "deviation": row.last.deviation,
        "by_seed": {str(seed): value for seed, value in row.by_unit.items()},
        "runs": [run.run_id for run in row.runs],
    }


def chosen(found: SweepRuns) -> list[dict[str, Any]]:
    """What each tuning chose: its values, its accuracy on the held-out images, of how many, and the test set's."""
    return [
        {
            "method": choice.curve.label,
            "student": panel.student,
            "dataset": panel.dataset,
            "holdout": panel.holdout,
            "values": list(choice.cell.values),
            "tried": len(choice.curve.cells),
            "held_out": summary(choice.cell.row),
            "test": [summary(row) for row in choice.tested],
        }
        for choice in found.choices
        for panel in found.panels
        if choice.curve in panel.curves
    ]

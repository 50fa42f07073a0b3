"""Which finished runs fill a cell.

A run fills a cell when its recorded configuration (`config` of its config.yaml, not the names it was given) says what
the cell's overrides say, value by value: data set, student, loss, recipe, and of a loss with a teacher that teacher's
network, loss and recipe. So the preset may be called otherwise (`zscore_kd_paper` at 2 and 9 is `zscore_kd`), but a run
of 10 epochs, on a hold-out, on part of the data or with another weight fills no cell of 240 epochs. What may differ:
the seeds, where the data lie, device and engine, the form in which the teacher was asked, and the precision; the last
two make rows of their own (`grouping`), as unlike weights of teachers do. A teacher given as a finished run
(`teacher.run=ID`, imported ones included) must be the cell's network; how it was trained is its own affair, and since
its weights differ, so is its row.
"""

from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from typing import Any

from distill.tables.published.declared import Declared
from distill.tables.reading import Finished
from distill.tables.values import flatten, to_text

PLACES = ("npz", "root", "download")
Facts = dict[str, Any]


class Wanted:
    """A cell's declared configuration, ready to be compared with many runs."""

    def __init__(self, declared: Declared) -> None:
        self._declared = declared

    @cached_property
    def loss(self) -> Facts:
        """The leaves of the loss."""
        return _facts("loss", self._declared.loss)

    @cached_property
    def student(self) -> Facts:
        """The leaves of the student."""
        return _facts("student", self._declared.student)

    @cached_property
    def data(self) -> Facts:
        """The leaves of the data set, without where it lies."""
        return _data(self._declared.dataset)

    @cached_property
    def recipe(self) -> Facts:
        """The leaves of the student's recipe."""
        return _facts("recipe", self._declared.recipe)

    @cached_property
    def teacher(self) -> Facts:
        """The leaves of the teacher's network."""
        return _facts("teacher.network", self._declared.teacher)

    @cached_property
    def training_of_teacher(self) -> Facts:
        """The leaves of the loss and the recipe that the teacher is trained with."""
        return {
            **_facts("teacher.loss", self._declared.teacher_loss),
            **_facts("teacher.recipe", self._declared.teacher_recipe),
        }

    def is_method(self, run: Finished) -> bool:
        """Whether the run trains this student by this loss on this data set, whatever else differs."""
        config = run.config
        same_data = (config.get("dataset") or {}).get("_target_") == self.data.get("dataset._target_")
        return same_data and _recorded(run, "student") == self.student and _recorded(run, "loss") == self.loss

    def has_teacher(self, run: Finished) -> bool:
        """Whether the run's teacher is this network."""
        network = _facts("teacher.network", (run.config.get("teacher") or {}).get("network"))
        return network == self.teacher

    def differs_in_cost(self, run: Finished) -> bool:
        """Whether the run's data, student or recipe are others, so that its time says nothing of this cell's."""
        data = _data(run.config.get("dataset") or {})
        recorded = (data, _recorded(run, "student"), _recorded(run, "recipe"))
        return recorded != (self.data, self.student, self.recipe)

    @property
    def is_alone(self) -> bool:
        """Whether the loss is that of a teacher: it has none itself."""
        return self._declared.loss == self._declared.teacher_loss

    def differences(self, run: Finished, networks: Mapping[str, Facts]) -> list[str]:
        """What the run has otherwise than the cell wants, as `recipe.epochs=10`; empty where it fills the cell.

        `networks` are the facts of the networks of finished runs by run id, for teachers given as runs.
        """
        found = _otherwise(_data(run.config.get("dataset") or {}), self.data)
        for facts, section in ((self.student, "student"), (self.loss, "loss"), (self.recipe, "recipe")):
            found += _otherwise(_recorded(run, section), facts)
        return found + (self._teacher(run, networks) if run.teacher else [])

    def _teacher(self, run: Finished, networks: Mapping[str, Facts]) -> list[str]:
        node = run.config.get("teacher") or {}
        if node.get("run"):
            assert run.teacher is not None
            network = networks.get(run.teacher.run_id or "")
            return ["teacher.run"] if network is None else _otherwise(network, self.teacher)
        trained = {**_facts("teacher.loss", node.get("loss")), **_facts("teacher.recipe", node.get("recipe"))}
        return [
            *_otherwise(_facts("teacher.network", node.get("network")), self.teacher),
            *_otherwise(trained, self.training_of_teacher),
        ]


def networks_of(runs: Iterable[Finished]) -> dict[str, Facts]:
    """The facts of every run's own network, as those of a teacher, by run id."""
    return {run.run_id: _facts("teacher.network", run.config.get("student")) for run in runs}


def _recorded(run: Finished, section: str) -> Facts:
    return _facts(section, run.config.get(section))


def _data(node: Mapping[str, Any]) -> Facts:
    return _facts("dataset", {key: value for key, value in node.items() if key not in PLACES})


def _facts(section: str, node: Any) -> Facts:
    """The leaves of a node as comparable values; null says the same as leaving the key out."""
    found = {path: _value(value) for path, value in flatten(node or {}, prefix=section).items()}
    return {path: value for path, value in found.items() if value is not None and value != {}}


def _value(value: Any) -> Any:
    if isinstance(value, bool) or value is None:
        return value
    if isinstance(value, int | float):
        return float(f"{value:.12g}")  # as in run ids
    return [_value(item) for item in value] if isinstance(value, Sequence) and not isinstance(value, str) else value


def _otherwise(has: Facts, wants: Facts) -> list[str]:
    paths = [*has, *(path for path in wants if path not in has)]
    return [f"{path}={to_text(has.get(path))}" for path in paths if has.get(path) != wants.get(path)]

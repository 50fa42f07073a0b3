"""Where a run's teacher comes from: a run that is trained first, or a finished run."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from torch import nn

from distill.config.plan import Nodes, Reference, RunPlan, TeacherFacts
from distill.config.rebuild import as_trained, load_into, own_normalisation, rebuild_network
from distill.runs.identity import run_id
from distill.runs.store import RunRecord


@dataclass(frozen=True)
class PlannedTeacher:
    """The run of a configuration, trained first where it is not finished: it reads the same data as its students."""

    plan: RunPlan

    @property
    def name(self) -> str:
        return self.plan.names["student"]

    @property
    def identity(self) -> dict[str, Any]:
        """A teacher given by its configuration is identified by its run."""
        return {"run": self.plan.run_id}

    @property
    def node(self) -> Nodes:
        node: Nodes = self.plan.config["student"]
        return node

    @property
    def precision(self) -> str:
        return self.plan.precision

    def network(self) -> nn.Module:
        network = self.plan.network()
        load_into(network, self.plan.finished())
        return network

    def facts(self) -> TeacherFacts:
        record = self.plan.finished()
        assert record.result is not None
        weights = record.result["weights_sha256"]
        remedy = "its weights or the data have changed; delete its folder to train it again"
        reference = Reference(record.result["last"]["accuracy"], "its record says", remedy)
        return TeacherFacts(record.run_id, weights, weights, record.path, reference)

    def moved(self, device: str) -> "PlannedTeacher":
        return PlannedTeacher(self.plan.moved(device))


@dataclass(frozen=True)
class FinishedTeacher:
    """A finished run that `teacher.run` names, imported ones included. It keeps the normalisation it was trained with.

    record     of the run
    dataset    the node of its students' data set
    data       the same data set as run ids hold it
    precision  resolved
    """

    record: RunRecord
    dataset: Nodes
    data: Mapping[str, Any]
    precision: str
    plan: ClassVar[None] = None

    @property
    def name(self) -> str:
        return str(self.record.names.get("student", self.record.run_id))

    @property
    def identity(self) -> dict[str, Any]:
        """The digest of its weights, and its normalisation where that is not the student's."""
        return {"weights": self._weights, **self._own}

    @property
    def node(self) -> Nodes:
        node: Nodes = self.record.config["student"]
        return node

    @property
    def _weights(self) -> str:
        assert self.record.result is not None
        return str(self.record.result["weights_sha256"])

    @property
    def _own(self) -> dict[str, Any]:
        return own_normalisation(self.record, self.data)

    def network(self) -> nn.Module:
        return as_trained(rebuild_network(self.record), self.record, self.data)

    def facts(self) -> TeacherFacts:
        key = f"{self._weights}:{run_id(self._own)}" if self._own else self._weights
        return TeacherFacts(self.record.run_id, self._weights, key, self.record.path, self._reference())

    def _reference(self) -> Reference | None:
        result = self.record.result
        assert result is not None
        accuracy = result["last"]["accuracy"]
        if (result.get("imported") or {}).get("accuracy") == "claimed":
            same = self.dataset["_target_"] == self.record.config["dataset"]["_target_"] and not self.data["holdout"]
            remedy = "import it again with its data (dataset.npz=FILE, dataset.root=DIR), so that it is measured"
            return Reference(accuracy, "its file claims", remedy) if same else None
        remedy = "its weights or the data have changed; import it again, or choose another teacher"
        same = _evaluated(self.record.identity.get("data")) == _evaluated(self.data)
        return Reference(accuracy, "its record says", remedy) if same else None

    def moved(self, device: str) -> "FinishedTeacher":
        return self


def _evaluated(data: Any) -> Any:
    """What identifies the evaluation images of a run: the digest of its test set, or what they were held out of."""
    if not isinstance(data, Mapping):
        return None
    return data.get("test") or (data.get("train"), data.get("holdout"))

"""Networks and losses from outside the package, by `_target_`."""

from pathlib import Path

import pytest
import torch

MODULE = '''
import torch
from torch import nn
from torch.nn import functional as F

from distill.losses import Objective


class Plain(nn.Module):
    """Knows nothing of the contract: images to a tensor of logits."""

    def __init__(self, width: int = 4, num_classes: int = 10):
        super().__init__()
        self.layers = nn.Sequential(nn.Conv2d(3, width, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.head = nn.Linear(width, num_classes)

    def forward(self, images):
        return self.head(self.layers(images))


class Fixed(Plain):
    def __init__(self):
        super().__init__(num_classes=7)


class Shapeless(Plain):
    def forward(self, images):
        return {"logits": super().forward(images)}


class Raises(Plain):
    def __init__(self, num_classes: int):
        raise KeyError("nothing here")


class Picky(Plain):
    def forward(self, images):
        assert images.shape[-1] == 224, "only 224 x 224"
        return super().forward(images)


class Half(Objective):
    """Half of the cross-entropy; needs no teacher."""

    needs_teacher = False

    def __init__(self, *, share: float = 0.5) -> None:
        super().__init__()
        if share <= 0:
            raise ValueError(f"share must be > 0, got {share}: set loss.share")
        self.share = share

    def forward(self, student, teacher, batch, progress):
        return {"ce": self.share * F.cross_entropy(student.logits, batch.labels)}


broken = 3
'''


@pytest.fixture(autouse=True)
def outside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A module of the user's on the path."""
    (tmp_path / "theirs.py").write_text(MODULE)
    (tmp_path / "falls_over.py").write_text("raise OSError('no such thing')\n")
    monkeypatch.syspath_prepend(str(tmp_path))


def test_a_plain_network_is_given_the_contract(command) -> None:
    plan = command.plan(*command.tiny, "student._target_=theirs.Plain", "+student.width=5")
    network = plan.network()
    output = network(torch.zeros(2, 3, 16, 16))
    assert output.logits.shape == (2, 10)
    assert network.network.head.in_features == 5
    assert plan.directory.name.startswith("Plain-kd-s1-")
    digest = plan.identity["student"]["own_code"]
    assert plan.identity["student"] == {"target": "theirs.Plain", "width": 5, "own_code": digest}
    assert plan.run_id == command.plan(*command.tiny, "student._target_=theirs.Plain", "+student.width=5.0").run_id


def test_it_can_be_the_teacher(command) -> None:
    plan = command.plan(*command.tiny, "teacher.network._target_=theirs.Plain")
    own = command.plan(*command.tiny, "student._target_=theirs.Plain", "loss=ce", "seed=0")
    assert plan.teacher.plan.run_id == own.run_id


WRONG = {
    ("student._target_=theirs.Plain", "+student.widht=5"): "student.widht is not a key of theirs.Plain: .*'width'",
    ("student._target_=theirs.Plain", "+student.width=wide"): "student.width must be an integer, got 'wide'",
    ("student._target_=theirs.Fixed",): r"student: Fixed must return logits of shape \(1, 10\), got shape \(1, 7\)",
    ("student._target_=theirs.Shapeless",): r"student: Shapeless must return logits of shape \(1, 10\), got dict",
    ("student._target_=theirs.Raises",): "student: KeyError: 'nothing here'",
    ("student._target_=theirs.Picky",): "student: AssertionError: only 224 x 224",
    ("student._target_=theirs.Pliant",): "student._target_ 'theirs.Pliant' cannot be imported: .*Pliant",
    ("student._target_=theirs.broken",): "student._target_ 'theirs.broken' is not a class or function",
    ("student._target_=falls_over.Net",): "student._target_ 'falls_over.Net' cannot be imported: .*no such thing",
    (
        "student._target_=theirs.Plain",
        "+student.num_classes=7",
    ): r"student: Plain must return logits of shape \(1, 10\), got shape \(1, 7\)",
}


@pytest.mark.parametrize("overrides", WRONG, ids=" ".join)
def test_what_is_refused(command, overrides) -> None:
    import re

    (sentence,) = command.refused(*command.tiny, *overrides)
    assert re.match(WRONG[overrides], sentence), sentence


def test_a_loss_from_outside(command, presets_of) -> None:
    own = presets_of({"loss/half.yaml": "# Half of it.\n_target_: theirs.Half\n"})
    plan = command.plan(*command.tiny, "loss=half", config_dir=own)
    assert (plan.objective().share, plan.teacher, plan.names["loss"]) == (0.5, None, "half")
    assert plan.directory.name.startswith("resnet8-half-s1-")
    assert plan.run_id == command.plan(*command.tiny, "loss=half", "loss.share=0.5", config_dir=own).run_id
    assert plan.run_id != command.plan(*command.tiny, "loss=half", "loss.share=0.4", config_dir=own).run_id
    sentences = command.refused(*command.tiny, "loss=half", "loss.share=0", config_dir=own)
    assert sentences == ["share must be > 0, got 0.0: set loss.share"]

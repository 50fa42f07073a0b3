"""Losses made of losses: every part is checked, weighted and identified like a loss of its own."""

PARTS = """\
_target_: distill.losses.Mixture
parts:
  soft:
    _target_: distill.losses.SoftTargets
    divergence: {_target_: distill.losses.kd, _partial_: true}
    temperature: 4
    ce_weight: 0.1
    kd_weight: 0.9
    alpha: null
  labels:
    _target_: distill.losses.CrossEntropy
weights: {soft: 1.0, labels: 0.5}
"""


def test_alpha_works_inside_a_part(command, presets_of) -> None:
    own = presets_of({"loss/parts.yaml": PARTS})
    plan = command.plan(*command.tiny, "loss=parts", "loss.parts.soft.alpha=0.25", config_dir=own)
    soft = plan.config["loss"]["parts"]["soft"]
    assert (soft["ce_weight"], soft["kd_weight"]) == (0.75, 0.25)
    assert "alpha" not in soft
    told = command.refused(
        *command.tiny, "loss=parts", "loss.parts.soft.alpha=0.25", "loss.parts.soft.kd_weight=1", config_dir=own
    )
    assert told == [
        "loss.parts.soft.alpha=0.25 sets ce_weight and kd_weight, but loss.parts.soft.kd_weight is given too: "
        "give one of the two"
    ]


def test_a_part_is_cast_named_and_identified(command, presets_of) -> None:
    own = presets_of({"loss/parts.yaml": PARTS})
    plan = command.plan(*command.tiny, "loss=parts", config_dir=own)
    assert plan.names["loss"] == "parts"
    parts = plan.identity["objective"]["parts"]
    assert parts["labels"] == {"target": "distill.objectives.CrossEntropy"}  # its weight is the default
    assert parts["soft"]["temperature"] == 4.0
    assert parts["soft"]["divergence"] == {"target": "distill.losses.logit.kd"}
    assert plan.directory.name.startswith("resnet8-mixture-s1-")
    changed = command.plan(*command.tiny, "loss=parts", "loss.parts.soft.temperature=2", config_dir=own)
    assert changed.run_id != plan.run_id


def test_faults_of_a_part(command, presets_of) -> None:
    own = presets_of({"loss/parts.yaml": PARTS})
    told = command.refused(
        *command.tiny, "loss=parts", "loss.parts.soft.temperatur=2", "loss.parts.labels.ce_weight=many", config_dir=own
    )
    assert told == [
        "loss.parts.soft.temperatur is not a key of distill.losses.SoftTargets: did you mean 'temperature'?",
        "loss.parts.labels.ce_weight must be a number, got 'many'",
    ]
    (word,) = command.refused(*command.tiny, "loss=parts", "loss.parts.labels=ce", config_dir=own)
    assert word.startswith("loss.parts.labels must be a node with a _target_, got 'ce'")


def test_what_the_objective_gives_to_its_loss_is_not_set_there(command) -> None:
    (told,) = command.refused(*command.tiny, "loss.divergence.temperature=3")
    assert told == "loss.divergence.temperature is taken from loss.temperature: set that one"

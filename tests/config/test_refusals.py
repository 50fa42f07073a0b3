"""Everything that can be wrong with a command is refused before any work, in sentences that name the remedy."""

import pytest

# command: fragments, one for each sentence expected, in any order; no other sentence may come
KEYS = {
    ("loss.temprature=3",): ["loss.temprature is not a key of .*SoftTargets: did you mean 'temperature'?"],
    ("+loss.temprature=3",): ["loss.temprature is not a key .*did you mean 'temperature'?"],
    ("++recipe.epoch=3",): ["recipe.epoch is not a key .*did you mean 'epochs'?"],
    ("los=kd",): ["los is not a key: did you mean 'loss'?"],
    ("sede=1",): ["sede is not a key: did you mean 'seed'?"],
    ("engine.thread=3",): ["engine.thread is not a key: did you mean 'threads'?"],
    ("pair.zscore_temprature=3",): ["pair.zscore_temprature is not a key: did you mean 'zscore_temperature'?"],
    ("recipe.optimizer.momentun=.3",): ["recipe.optimizer.momentun is not a key of torch.optim.SGD: .*'momentum'?"],
    ("recipe.schedule.gama=3",): ["recipe.schedule.gama is not a key of .*Steps: did you mean 'gamma'?"],
    ("loss.divergence.eps=1",): ["loss.divergence.eps is not a key of .*kd: there are .*temperature"],
    ("teacher.sed=3",): ["teacher.sed is not a key: did you mean 'seed'?"],
    ("teacher.recipe.epoch=3",): ["teacher.recipe.epoch is not a key .*did you mean 'epochs'?"],
    ("teacher.network.widht=3",): ["teacher.network.widht is not a key of distill.models.resnet20"],
    ("student.width=3",): ["student.width is not a key of distill.models.resnet8"],
    ("dataset.hold_out=3",): ["dataset.hold_out is not a key of distill.data.synthetic: did you mean 'holdout'?"],
    ("hydra.launcher.siz=3", "hydra/launcher=cohort"): ["hydra.launcher.siz is not a key: did you mean 'size'?"],
    ("sweep.parms.seed=1",): ["sweep.parms is not a key: did you mean 'params'?"],
    ("=3",): ["'=3' is not KEY=VALUE: the key is missing"],
    ("temperature",): ["'temperature' is not KEY=VALUE: write KEY=VALUE, e.g. loss=kd"],
    ("seed=[1",): [r"'seed=\[1' is not KEY=VALUE: close every bracket and quote, put one comma between values, and"],
}
OPTIONS = {
    ("student=resnet9",): ["student=resnet9 does not exist: did you mean 'resnet8'?"],
    ("teacher=resnet20x",): ["teacher=resnet20x does not exist: did you mean 'resnet20'?"],
    ("loss=zscre_kd",): ["loss=zscre_kd does not exist: did you mean 'zscore_kd'?"],
    ("loss=ablation/mean_olny",): ["loss=ablation/mean_olny does not exist: did you mean 'ablation/mean_only'?"],
    ("recipe=cifer",): ["recipe=cifer does not exist: did you mean 'cifar'?"],
    ("experiment=dmo",): ["experiment=dmo does not exist: did you mean 'demo'?"],
    ("experiment=cifar100/resnet20_resnet9",): [".* did you mean 'cifar100/resnet20_resnet8'?"],
    ("sweep=temprature",): ["sweep=temprature does not exist: did you mean 'temperature'?"],
    ("hydra/launcher=cohrt",): ["hydra/launcher=cohrt does not exist: did you mean 'cohort'?"],
    ("loss=",): ["loss= does not exist: there are .* ce, crd,"],
    ("teacher=null",): ["teacher=null does not exist: there are .* none,"],
    ("recipe@teacher.recipe=cifer",): ["recipe=cifer does not exist: did you mean 'cifar'?"],
    # of a node whose preset is not the one asked for, nothing more is said
    ("student=tim", "student.name=resnet18"): ["student=tim does not exist: did you mean 'timm'?"],
    ("experiment=dmo", "loss.beta=3", "seed=x"): ["experiment=dmo does not exist", "seed must be an integer, got 'x'"],
}
TYPES = {
    ("seed=many",): ["seed must be an integer, got 'many'"],
    ("seed=1.5",): ["seed must be an integer, got 1.5"],
    ("seed=true",): ["seed must be an integer, got True"],
    ("seed=[1,2]",): [r"seed must be an integer, got \[1, 2\]"],
    ("precision=fp16",): ["precision must be one of fp32, bf16, auto, got 'fp16'"],
    ("teacher.precision=half",): ["teacher.precision must be .*fp32, bf16, auto.* got 'half'"],
    ("loss.temperature=hot",): ["loss.temperature must be a number, got 'hot'"],
    ("loss.temperature=null",): ["loss.temperature must be a number, got None"],
    ("loss.temperature=nan",): ["loss.temperature must be finite, got nan"],
    ("recipe.optimizer.lr=inf",): ["recipe.optimizer.lr must be finite, got inf"],
    ("loss.divergence=kd",): ["loss.divergence must be a function, written as {_target_"],
    ("recipe.epochs=ten",): ["recipe.epochs must be an integer, got 'ten'"],
    ("recipe.optimizer.lr=fast",): ["recipe.optimizer.lr must be a number, got 'fast'"],
    ("recipe.schedule.milestones=0.5",): ["recipe.schedule.milestones must be a list, got 0.5"],
    ("recipe.schedule.milestones=[a]",): [r"milestones must be a list with a number at every place, got \['a'\]"],
    ("dataset.flip=maybe",): ["dataset.flip must be true or false, got 'maybe'"],
    ("dataset.mean=[1,2]",): ["dataset.mean must be a list of 3 values"],
    ("dataset.limit=1.5",): ["dataset.limit must be an integer or null, got 1.5"],
    ("engine.threads=all",): ["engine.threads must be an integer or null, got 'all'"],
    ("teacher.seed=none",): ["teacher.seed must be an integer, got 'none'"],
}
RANGES = {
    ("loss.temperature=0",): ["temperature must be > 0, got 0.0: set loss.temperature"],
    ("loss.kd_weight=-1",): ["kd_weight must be >= 0, got -1.0: set loss.kd_weight"],
    ("loss.temperature=-1", "loss.ce_weight=-2"): ["temperature must be > 0, got -1", "ce_weight must be >= 0, got -2"],
    ("loss.ce_weight=0", "loss.kd_weight=0"): ["ce_weight and kd_weight must not both be 0"],
    ("loss.alpha=1.1",): ["loss.alpha must be between 0 and 1, got 1.1"],
    ("loss.alpha=-0.1",): ["loss.alpha must be between 0 and 1, got -0.1"],
    ("loss.alpha=much",): ["loss.alpha must be a number, got 'much'"],
    ("loss.alpha=0.5", "loss.ce_weight=0.1"): ["loss.alpha=0.5 sets .* but loss.ce_weight is given too"],
    ("loss.alpha=0.5", "+loss.kd_weight=1"): ["loss.alpha=0.5 sets .* but loss.kd_weight is given too"],
    ("loss=ce", "loss.alpha=0.5"): ["loss.alpha=0.5 needs a preset with ce_weight and kd_weight; loss=ce"],
    ("recipe.epochs=0",): ["epochs must be >= 1, got 0: set recipe.epochs"],
    ("recipe.epochs=0", "recipe.batch_size=-2"): ["epochs must be >= 1", "batch_size must be >= 1, got -2"],
    ("recipe.schedule.milestones=[2]", "recipe.schedule.gamma=0", "recipe.epochs=0"): [
        "milestones are fractions .*, got 2.0",
        "gamma must be > 0, got 0.0",
        "epochs must be >= 1, got 0",
    ],
    ("recipe.label_smoothing=1",): ["label_smoothing must be >= 0 and < 1, got 1.0: set recipe.label_smoothing"],
    ("recipe.label_smoothing=0.1", "loss=kd_soft_only"): [
        "recipe.label_smoothing=0.1 smooths the labels .*, and loss=kd_soft_only has none: set recipe.label_smoothing=0"
    ],
    ("recipe.optimizer.lr=0",): ["recipe.optimizer.lr must be > 0, got 0.0"],
    ("recipe.optimizer.weight_decay=-1",): ["recipe.optimizer.weight_decay must be >= 0, got -1"],
    ("recipe.optimizer.nesterov=true", "recipe.optimizer.momentum=0"): ["recipe.optimizer: Nesterov momentum requires"],
    ("teacher.recipe.epochs=0",): ["epochs must be >= 1, got 0: set teacher.recipe.epochs"],
    ("teacher.loss.ce_weight=-1",): ["ce_weight must be >= 0, got -1.0: set teacher.loss.ce_weight"],
    ("seed=-1", "teacher.seed=-2"): ["seed must be >= 0, got -1", "teacher.seed must be >= 0, got -2"],
    ("hydra/launcher=cohort", "hydra.launcher.size=0"): ["hydra.launcher.size must be >= 1, got 0"],
    ("engine.threads=0",): ["engine.threads must be >= 1, got 0"],
    ("engine.gradient_norms_every=0",): ["engine.gradient_norms_every must be >= 1, got 0"],
    ("engine.checkpoint_seconds=-1",): ["engine.checkpoint_seconds must be >= 0"],
    ("engine.checkpoint_seconds=nan",): ["engine.checkpoint_seconds must be"],
    ("engine.device=abacus",): ["engine.device=abacus cannot be used here .*: set engine.device=cpu or auto"],
    ("dataset.holdout=195",): [r"dataset.holdout=195 leaves class \d \(\d\) without training images"],
    ("dataset.holdout=200",): ["dataset.holdout must be .* below the number of training images"],
    ("dataset.limit=5", "dataset.pad=-1"): ["dataset.limit must be between", "dataset.pad must be >= 0, got -1"],
    ("dataset.classes=1", "dataset.test_size=0"): ["dataset.classes must be at least 2", "dataset.test_size must be"],
}
TEACHERS = {
    ("teacher=none",): ["loss=kd needs a teacher: choose teacher=NAME or teacher.run=ID"],
    ("teacher=none", "loss=zscore_kd"): ["loss=zscore_kd needs a teacher"],
    ("~teacher",): ["loss=kd needs a teacher"],
    ("teacher=none", "loss.temprature=3"): ["loss=kd needs a teacher", "loss.temprature is not a key"],
    ("teacher=none", "teacher.network.width=3"): [
        "teacher.network has no _target_, so it names no class: choose an option"
    ],
    ("teacher.recipe=demo",): [
        "teacher.recipe is a group, got 'demo': choose an option with recipe@teacher.recipe=NAME"
    ],
    ("teacher.recipe=demo", "teacher.recipe.epochs=3"): ["choose an option with recipe@teacher.recipe=NAME, or set"],
    ("teacher.run=0123abc",): ["teacher.run: no run matches '0123abc'"],
    ("teacher.input=native", "recipe.epochs=0"): ["teacher.input is for a teacher", "epochs must be >= 1, got 0"],
    ("teacher.run=12e4",): ["teacher.run: no run matches '12e4'"],  # text, not 120000
    ("loss@teacher.loss=kd",): ["teacher.loss.alpha is not a key"],
    ("teacher.network._target_=distill.models.resnet9",): ["teacher.network._target_ .* cannot be imported"],
}
UNFILLED = {
    ("student=timm",): ["student.name has no value yet: set student.name=VALUE"],
    ("teacher=timm",): ["teacher.network.name has no value yet: set teacher.network.name=VALUE"],
    ("dataset=arrays", "recipe=demo"): ["dataset.npz has no value yet: set dataset.npz=VALUE"],
    ("loss=zscore_kd_paper",): [
        r"loss.temperature takes its value from \$\{pair.zscore_temperature\}, which an experiment fills: add",
        r"loss.kd_weight takes its value from \$\{pair.zscore_weight\}, which an experiment fills: add",
    ],
    ("seed=???",): [r"seed has no value yet: set seed=VALUE"],
    ("~seed",): ["seed is missing"],
    ("~student",): ["student is missing"],
    ("~loss.temperature",): ["loss.temperature is missing: distill.losses.SoftTargets needs it"],
    ("~recipe.schedule",): ["recipe.schedule is missing"],
    ("~student._target_",): ["student has no _target_, so it names no class: choose an option with student=NAME"],
}
OTHERS = {
    ("teacher.recipe=3",): ["teacher.recipe is a group, got 3"],
    ("engine=cpu",): ["engine is a group, got 'cpu': set engine.KEY=VALUE"],
    ("loss.temprature=3", "seed=many", "recipe.epoch=5"): [
        "loss.temprature is not a key .*did you mean 'temperature'?",
        "seed must be an integer, got 'many'",
        "recipe.epoch is not a key .*did you mean 'epochs'?",
    ],
    ("student=resnet9", "loss=kdd", "seed=x", "recipe.epochs=0", "engine.thread=2", "dataset.holdout=199"): [
        "student=resnet9 does not exist",
        "loss=kdd does not exist",
        "seed must be an integer",
        "epochs must be >= 1",
        "engine.thread is not a key",
        "dataset.holdout=199 leaves class",
    ],
    ("student._target_=nowhere.Net",): ["student._target_ 'nowhere.Net' cannot be imported: No module named"],
    ("student._target_=resnet8",): ["student._target_ 'resnet8' cannot be imported: it has no dots"],
    ("student._target_=distill.models",): ["student._target_ .* is not a class or function"],
    ("student._target_=builtins.dict",): [
        "student: builtins.dict must return a torch.nn.Module, it returned dict: name the"
    ],
    ("student=timm", "student.name=resnet18x"): ["student: name must be a timm network, got 'resnet18x': did you mean"],
    ("student=timm", "student.name=vit_tiny_patch16_224"): [r"student: .*height \(16\) doesn't match model \(224\)"],
    ("dataset=cifar10", "dataset.npz=none.npz"): ["there is no file none.npz"],
    ("dataset=cifar10", "student.widht=3"): ["CIFAR10 is not in data, or not intact", "student.widht is not a key"],
    ("seed=1,2",): ["seed=1,2 names several values: add -m to sweep over them"],
    ("loss=kd,ce",): ["loss=kd,ce names several values: add -m"],
    ("sweep=seeds,temperature",): ["sweep=seeds,temperature names several values: choose one sweep preset"],
}
ALL = {**OPTIONS, **RANGES, **TEACHERS, **UNFILLED, **OTHERS}


def several(commands: dict[tuple[str, ...], list[str]], size: int = 6) -> dict[tuple[str, ...], list[str]]:
    """Commands put together where they set different keys: every fault of each is then told at once."""
    merged: list[dict[str, list[str]]] = []
    for overrides, fragments in commands.items():
        keys = [override.lstrip("+").partition("=")[0] for override in overrides]
        room = (m for m in merged if len(m["keys"]) < size and not set(keys) & set(m["keys"]))
        place = next(room, None)
        if place is None:
            place = {"keys": [], "overrides": [], "fragments": []}
            merged.append(place)
        place["keys"] += keys
        place["overrides"] += overrides
        place["fragments"] += fragments
    return {tuple(m["overrides"]): m["fragments"] for m in merged}


ALL |= several({**KEYS, **TYPES})


def assert_told(sentences: list[str], patterns: list[str]) -> None:
    """Each sentence is the one that exactly one pattern waits for."""
    import re

    waiting = list(patterns)
    for sentence in sentences:
        found = [p for p in waiting if re.search(p.replace("'?", r"'\?"), sentence)]
        assert found, f"not expected: {sentence}"
        waiting.remove(found[0])
    assert waiting == [], sentences


@pytest.mark.parametrize("overrides", ALL, ids=" ".join)
def test_refused(command, overrides) -> None:
    base = () if any(o.startswith("dataset=") for o in overrides) else command.tiny
    assert_told(command.refused(*base, *overrides), ALL[overrides])


def test_what_is_wrong_already_is_told_with_the_rest(command) -> None:
    from distill.config.faults import Fault, Refused
    from distill.config.sweep import prepare

    with pytest.raises(Refused) as caught:
        prepare(
            ["seed=x"],
            multirun=False,
            config_dir=None,
            faults=[Fault("--foo", "key", "unknown option --foo")],
            may_download=False,
        )
    assert [s.split()[0] for s in caught.value.sentences] == ["unknown", "seed"]


def test_runs_dir_must_be_a_folder(command, tmp_path) -> None:
    (tmp_path / "file").write_text("")
    (sentence,) = command.refused(*command.tiny, f"runs_dir={tmp_path / 'file'}")
    assert sentence.startswith("runs_dir must be a folder, ")


def test_a_baseline_needs_no_teacher_whatever_is_said_of_one(command) -> None:
    plan = command.plan(*command.tiny, "loss=ce", "teacher=none")
    assert (plan.teacher, plan.names["teacher"], plan.config["teacher"]) == (None, "none", None)


@pytest.mark.parametrize("overrides", [("experiment=null",), ("sweep=null",), ("sweep=seeds", "sweep=null")])
def test_null_takes_a_choice_back(command, overrides) -> None:
    assert command.plan(*command.tiny, *overrides).run_id == command.plan(*command.tiny).run_id


def test_of_two_values_for_one_key_the_last_counts(command) -> None:
    plan = command.plan(*command.tiny, "loss=kd", "seed=1", "loss=ce", "+seed=2")
    assert (plan.names["loss"], plan.seed) == ("ce", 2)

"""Every method has one look, in every figure."""

from pathlib import Path

from distill.report.looks import COLOURS, Look, look_of
from distill.report.subjects import compared

ROOT = Path(__file__).resolve().parents[2]


def shipped() -> list[str]:
    """The names of all loss presets."""
    folder = ROOT / "configs" / "loss"
    return sorted(str(path.relative_to(folder).with_suffix("")) for path in folder.rglob("*.yaml"))


def test_no_two_presets_look_alike() -> None:
    looks = {name: look_of(name) for name in shipped()}
    assert len(looks) >= 50
    assert len(set(looks.values())) == len(looks)


def test_the_headline_methods_have_colours_of_their_own() -> None:
    names = ("ce", "kd", "zscore_kd", "kd_w9_t2", "zscore_kd_w09", "kd_w09_t2", "dkd")
    assert {look_of(name).colour for name in names} == set(COLOURS)
    assert {look_of(name).dash for name in names} == {"-"}
    assert look_of("zscore_kd").colour == look_of("zscore_kd_paper").colour == "#D55E00"
    assert look_of("kd").colour == "#0072B2"


def test_runs_of_one_method_keep_its_colour_and_are_told_apart(make_run) -> None:
    runs = [make_run(f"id{seed}", loss="kd", seed=seed) for seed in (1, 2, 3)]
    found = compared(runs[0], runs[1:], None, images=None)
    assert [each.label for each in found.students] == ["kd, seed 2", "kd, seed 3", "kd, seed 1"]
    assert {each.look.colour for each in found.students} == {look_of("kd").colour}
    assert len({each.look for each in found.students}) == 3


def test_a_preset_of_ones_own_has_a_look_that_lasts() -> None:
    assert look_of("mine") == look_of("mine") == Look(*vars(look_of("mine")).values())
    assert look_of("mine").colour in COLOURS


def test_labels_are_unique_and_no_longer_than_needed(make_run) -> None:
    one, two, three = make_run("a", loss="kd"), make_run("b", loss="zscore_kd"), make_run("c", loss="kd")
    assert [each.label for each in compared(one, [two], None, images=None).students] == ["zscore_kd", "kd"]
    same = compared(one, [two, three], None, images=None)
    assert [each.label for each in same.students] == ["zscore_kd, b", "kd, c", "kd, a"]

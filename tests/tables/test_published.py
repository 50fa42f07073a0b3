"""Published tables: the shipped ones against a second transcription, and what is refused in a table's file.

The transcription was made column by column, where the files hold rows.
"""

from itertools import chain
from pathlib import Path

import pytest

from distill.tables.published import DamagedTable, PublishedTable, load, table_names

LINES = "teacher ce fitnet at rkd crd ofd review_kd simkd cat_kd kd zscore_kd delta ctkd zscore_ctkd dkd zscore_dkd mlkd zscore_mlkd"  # noqa: E501
# one line a pair, downwards through the printed table
CROSS = {
    "resnet32x4_shufflenet_v2": "79.42 71.82 73.54 72.73 73.21 75.65 76.82 77.78 78.39 78.41 74.45 75.56 1.11 75.37 76.18 77.07 77.37 78.44 78.76",  # noqa: E501
    "resnet32x4_wrn_16_2": "79.42 73.26 74.70 73.91 74.86 75.65 76.17 76.11 77.17 76.97 74.90 75.26 0.36 74.57 75.16 75.70 76.19 76.52 77.53",  # noqa: E501
    "resnet32x4_wrn_40_2": "79.42 75.61 77.69 77.43 77.82 78.15 79.25 78.96 79.29 78.59 77.70 77.92 0.22 77.66 77.99 78.46 78.95 79.26 79.66",  # noqa: E501
    "wrn_40_2_resnet8x4": "75.61 72.50 74.61 74.11 75.26 75.24 74.36 74.34 75.29 75.38 73.97 77.11 3.14 74.61 77.03 75.56 76.75 77.33 77.68",  # noqa: E501
    "wrn_40_2_mobilenet_v2": "75.61 64.60 68.64 60.78 69.27 70.28 69.92 71.28 70.10 70.24 68.36 69.23 0.87 68.34 69.53 69.28 70.01 70.78 71.61",  # noqa: E501
    "vgg13_mobilenet_v2": "74.64 64.60 64.16 59.40 64.52 69.73 69.48 70.37 69.44 69.13 67.37 68.61 1.24 68.50 68.98 69.71 69.98 70.57 70.94",  # noqa: E501
    "resnet50_mobilenet_v2": "79.34 64.60 63.16 58.58 64.43 69.11 69.04 69.89 69.97 71.36 67.35 69.02 1.67 68.67 69.36 70.35 70.45 71.04 71.19",  # noqa: E501
}
SAME = {
    "resnet32x4_resnet8x4": "79.42 72.50 73.50 73.44 71.90 75.51 74.95 75.63 78.08 76.91 73.33 76.62 3.29 73.39 76.67 76.32 77.01 77.08 78.28",  # noqa: E501
    "vgg13_vgg8": "74.64 70.36 71.02 71.43 71.48 73.94 73.95 74.84 74.89 74.65 72.98 74.36 1.38 73.52 74.47 74.68 74.81 75.18 75.22",  # noqa: E501
    "wrn_40_2_wrn_40_1": "75.61 71.98 72.24 72.77 72.22 74.14 74.33 75.09 74.53 74.82 73.54 74.37 0.83 73.93 74.58 74.81 74.89 75.35 75.56",  # noqa: E501
    "wrn_40_2_wrn_16_2": "75.61 73.26 73.58 74.08 73.35 75.48 75.24 76.12 75.53 75.60 74.92 76.11 1.19 75.45 76.08 76.24 76.39 76.63 76.95",  # noqa: E501
    "resnet56_resnet20": "72.34 69.06 69.21 70.55 69.61 71.16 70.98 71.89 71.05 71.62 70.66 71.43 0.77 71.19 71.34 71.97 72.32 72.19 72.33",  # noqa: E501
    "resnet110_resnet32": "74.31 71.14 71.06 72.31 71.82 73.48 73.23 73.89 73.92 73.62 73.08 74.17 1.09 73.52 74.01 74.11 74.29 74.11 74.32",  # noqa: E501
    "resnet110_resnet20": "74.31 69.06 68.99 70.65 69.25 71.46 71.29 71.34 71.06 71.37 70.67 71.48 0.81 70.99 71.39 71.06 71.85 71.89 72.27",  # noqa: E501
}
IMAGENET_LINES = (
    "teacher ce at ofd crd review_kd simkd cat_kd kd zscore_kd ctkd zscore_ctkd dkd zscore_dkd mlkd zscore_mlkd"
)
IMAGENET = {
    "resnet34_resnet18": "73.31/91.42 69.75/89.07 70.69/90.01 70.81/89.98 71.17/90.13 71.61/90.51 71.59/90.48 71.26/90.45 71.03/90.05 71.42/90.29 71.38/90.27 71.81/90.46 71.70/90.41 71.88/90.58 71.90/90.55 72.08/90.74",  # noqa: E501
    "resnet50_mobilenet_v1": "76.16/92.86 68.87/88.76 69.56/89.33 71.25/90.34 71.37/90.41 72.56/91.00 72.25/90.86 72.24/91.13 70.50/89.80 72.18/90.80 71.16/90.11 72.92/91.25 72.05/91.05 72.85/91.23 73.01/91.42 73.22/91.59",  # noqa: E501
}
# rows whose settings somebody published
IMAGENET_TRAINED = {
    "resnet34_resnet18": "ce at crd kd kd_paper kd_w9_t2 zscore_kd ctkd dkd",
    "resnet50_mobilenet_v1": "ce at crd kd kd_paper kd_w9_t2 zscore_kd dkd",
}
# row, column, temperature, weights
IMAGENET_SETTINGS = """\
kd resnet34_resnet18 1 ce_weight=0.5 kd_weight=0.5
kd resnet50_mobilenet_v1 1 ce_weight=0.5 kd_weight=0.5
kd_paper resnet34_resnet18 1 kd_weight=0.5 ce_weight=1
kd_paper resnet50_mobilenet_v1 1 kd_weight=0.5 ce_weight=0.5
kd_w9_t2 resnet34_resnet18 2 kd_weight=9 ce_weight=1
kd_w9_t2 resnet50_mobilenet_v1 2 kd_weight=9 ce_weight=0.5
zscore_kd resnet34_resnet18 2 kd_weight=9 ce_weight=1
zscore_kd resnet50_mobilenet_v1 2 kd_weight=9 ce_weight=0.5
dkd resnet34_resnet18 1 ce_weight=1 target_weight=1 nontarget_weight=0.5
dkd resnet50_mobilenet_v1 1 ce_weight=1 target_weight=1 nontarget_weight=2"""
WEIGHTS = "0.9 3 6 9 12 15 18"
ABLATION = {
    "plain": "73.60 74.38 74.45 73.33 68.29 65.34 63.45",
    "mean_only": "73.37 74.33 74.82 73.94 71.56 62.01 61.31",
    "deviation_only": "73.79 75.86 76.44 76.30 76.49 76.42 76.18",
    "zscore": "74.14 76.11 76.56 76.62 76.56 76.61 76.33",
}
TEACHERS = {  # teacher, KD, KD + Z-score, DKD, DKD + Z-score
    "vgg13_wrn_16_2": "74.64 74.93 75.03 75.45 75.56",
    "wrn_28_2_wrn_16_2": "75.45 75.37 76.32 75.92 76.39",
    "wrn_40_2_wrn_16_2": "75.61 74.92 76.11 76.24 76.39",
    "wrn_16_4_wrn_16_2": "77.51 75.79 76.72 76.00 76.68",
    "wrn_28_4_wrn_16_2": "78.60 75.04 75.77 76.45 76.67",
    "resnet50_wrn_16_2": "79.34 75.36 76.24 76.60 76.82",
}
VIT = {  # alone, LG, KD + Z-score, the released log's best and last
    "resnet56_deit_tiny": "65.08 78.15 78.55 78.73 78.46",
    "resnet56_t2t_vit_7": "69.37 78.35 78.43 78.10 77.95",
    "resnet56_pit_tiny": "73.58 78.48 78.76 78.76 78.48",
    "resnet56_pvt_tiny": "69.22 77.07 78.43 78.45 78.23",
}
# temperature/weight of KD + Z-score; temperature/weight/beta of DKD + Z-score; of MLKD + Z-score, learning rate, epochs
LOGS = {
    "resnet32x4_resnet8x4": "2/9 2/9/8 2/9 .025 480",
    "vgg13_vgg8": "3/9 2/15/2 2/6 .01 480",
    "wrn_40_2_wrn_40_1": "2/9 2/12/2 2/9 .025 480",
    "wrn_40_2_wrn_16_2": "2/9 2/12/2 2/9 .025 480",
    "resnet56_resnet20": "2/9 3/18/2 2/9 .025 480",
    "resnet110_resnet32": "2/9 2/15/2 2/9 .025 480",
    "resnet110_resnet20": "4/12 2/15/2 2/9 .025 480",
    "resnet32x4_shufflenet_v2": "2/9 2/9/8 2/6 .01 960",
    "resnet32x4_wrn_16_2": "3/9 2/9/2 2/9 .025 480",
    "resnet32x4_wrn_40_2": "3/9 2/9/8 2/9 .025 480",
    "wrn_40_2_resnet8x4": "2/9 2/18/2 2/9 .025 480",
    "wrn_40_2_mobilenet_v2": "3/9 2/15/2 2/9 .005 480",
    "vgg13_mobilenet_v2": "3/9 3/9/2 2/6 .01 480",
    "resnet50_mobilenet_v2": "3/1 2/15/2 2/9 .01 480",
}
LAST = "ce fitnet at rkd crd kd"
BEST = "zscore_kd ctkd zscore_ctkd dkd zscore_dkd zscore_mlkd"


def numbers(text: str) -> list[float]:
    """The numbers of a line."""
    return [float(word) for word in text.split()]


def values(table: PublishedTable, column: str, rows: str) -> list[float | None]:
    """The published numbers of some rows of a column."""
    return [table.cells[row, column].value for row in rows.split()]


@pytest.mark.parametrize(("name", "printed"), [("cifar100_cross", CROSS), ("cifar100_same", SAME)])
def test_the_two_big_tables(name: str, printed: dict[str, str]) -> None:
    table = load(name)
    assert [column.key for column in table.columns] == list(printed)
    assert [row.key for row in table.rows] == [row for row in LINES.split() if row not in ("teacher", "delta")]
    for column, line in printed.items():
        there = dict(zip(LINES.split(), numbers(line), strict=True))
        assert table.column(column).teacher_accuracy == there.pop("teacher")
        assert table.column(column).student_accuracy == there["ce"]
        gained = there.pop("delta")  # the printed row of differences, which the files leave out
        assert dict(zip(there, values(table, column, " ".join(there)), strict=True)) == there
        assert there["zscore_kd"] - there["kd"] == pytest.approx(gained, abs=1e-9)


def test_imagenet() -> None:
    table = load("imagenet")
    ours = ["kd_paper", "kd_w9_t2"]  # settings of a code, and a control: nobody published a number
    assert [row.key for row in table.rows if row.key not in ours] == IMAGENET_LINES.split()
    assert [column.key for column in table.columns] == list(IMAGENET)
    for column, line in IMAGENET.items():
        cells = [table.cells[row, column] for row in IMAGENET_LINES.split()]
        assert [f"{cell.value:.2f}/{cell.top5:.2f}" for cell in cells] == line.split()
        assert (cells[0].value, cells[1].value) == (
            table.column(column).teacher_accuracy,
            table.column(column).student_accuracy,
        )
        assert [(table.cells[row, column].value, table.cells[row, column].top5) for row in ours] == [(None, None)] * 2
        trained = [row for (row, each), cell in table.cells.items() if cell.overrides and each == column]
        assert trained == [row.key for row in table.rows if row.key in IMAGENET_TRAINED[column].split()]
    reruns = " ".join(table.cells["zscore_kd", "resnet34_resnet18"].notes)
    assert all(accuracy in reruns for accuracy in ("71.23", "71.69", "71.39/90.37", "71.45/90.58", "71.26/90.54"))


@pytest.mark.parametrize("line", IMAGENET_SETTINGS.splitlines())
def test_settings_of_the_imagenet_rows(line: str) -> None:
    row, column, temperature, *weights = line.split()
    cell = load("imagenet").cells[row, column]
    assert f"{cell.temperature:g}" == temperature
    assert [f"{key}={value:g}" for key, value in cell.weights.items()] == weights


def test_the_ablation() -> None:
    table = load("ablation")
    assert [row.key for row in table.rows] == [f"weight_{weight}" for weight in WEIGHTS.split()]
    assert [column.key for column in table.columns] == list(ABLATION)
    for column, line in ABLATION.items():
        cells = [table.cells[row.key, column] for row in table.rows]
        assert [cell.value for cell in cells] == numbers(line)
        assert [cell.weights["kd_weight"] for cell in cells] == numbers(WEIGHTS)
        assert {(cell.temperature, cell.weights["ce_weight"], cell.runs) for cell in cells} == {(2.0, 0.1, 4)}
        assert (table.column(column).teacher_accuracy, table.column(column).student_accuracy) == (79.42, 72.50)


def test_other_teachers() -> None:
    table = load("teacher_size")
    assert [column.key for column in table.columns] == list(TEACHERS)
    for column, line in TEACHERS.items():
        teacher, *rest = numbers(line)
        assert table.column(column).teacher_accuracy == teacher
        assert table.column(column).student_accuracy == 73.26
        assert values(table, column, "kd zscore_kd dkd zscore_dkd") == rest


def test_transformers() -> None:
    table = load("vit")
    assert [column.key for column in table.columns] == list(VIT)
    for column, line in VIT.items():
        assert values(table, column, "ce lg zscore_kd zscore_kd_log_best zscore_kd_log_last") == numbers(line)
    assert table.cells["zscore_kd_log_best", "resnet56_pit_tiny"].epochs == "best on test"
    assert table.cells["zscore_kd_log_last", "resnet56_pit_tiny"].epochs == "last"


def test_the_small_studies() -> None:
    plain = load("plain_cnn")
    assert values(plain, "resnet_1m_plain_cnn", "ce kd zscore_kd") == [92.29, 93.05, None]
    assert plain.column("resnet_1m_plain_cnn").teacher_accuracy == 93.67
    small = load("cifar100_small")
    assert [cell.value for cell in small.cells.values()] == [None] * 6
    assert {"ce", "kd_w09_t2", "kd_w9_t2", "zscore_kd_w09", "zscore_kd"} < {row.key for row in small.rows}
    photographs = load("imagenette_small")
    assert [cell.value for cell in photographs.cells.values()] == [None] * 5
    assert {cell.weights["ce_weight"] for cell in photographs.cells.values()} == {1.0}


def test_temperatures_and_weights_of_the_papers_own_rows() -> None:
    for name in ("cifar100_same", "cifar100_cross"):
        table = load(name)
        for column in (column.key for column in table.columns):
            kd, dkd, mlkd, _, _ = ([*map(float, part.split("/"))] for part in LOGS[column].split())
            of_kd, of_dkd, of_mlkd = (table.cells[f"zscore_{row}", column] for row in ("kd", "dkd", "mlkd"))
            assert [of_kd.temperature, of_kd.weights["kd_weight"]] == kd
            temperature, weight, beta = dkd
            assert of_dkd.temperature == temperature
            assert of_dkd.weights["target_weight"] == weight
            assert of_dkd.weights["nontarget_weight"] == weight * beta
            assert [of_mlkd.temperature, of_mlkd.weights["kd_weight"]] == mlkd


def test_epoch_rules_and_numbers_of_runs() -> None:
    same, cross = load("cifar100_same"), load("cifar100_cross")
    quoted = ("resnet32x4_shufflenet_v2", "vgg13_mobilenet_v2", "resnet50_mobilenet_v2")  # in RepDistiller's README
    own = {  # where the methods' own papers or READMEs have the pair
        "ctkd": {*SAME} - {"resnet32x4_resnet8x4"},
        "dkd": {*SAME, *quoted} - {"resnet110_resnet20"},
    }
    for table, last, runs in ((same, tuple(SAME), 5), (cross, quoted, 3)):
        for (row, column), cell in table.cells.items():
            if row in BEST.split() and column in own.get(row, [column]):
                expected = "best on test", {"ctkd": None, "dkd": 5}.get(row, 4)
            elif row == "ce":
                expected = "last", None
            elif row in LAST.split() and column in last:
                expected = "last", runs
            else:
                expected = "unknown", None
            assert (cell.epochs, cell.runs) == expected, (row, column)
    kd = same.cells["kd", "resnet56_resnet20"]
    assert (kd.temperature, dict(kd.weights)) == (4.0, {"ce_weight": 0.1, "kd_weight": 0.9})


def test_notes_state_where_code_and_paper_disagree() -> None:
    def stated(name: str, row: str, column: str) -> str:
        table = load(name)
        return " ".join([*table.row(row).notes, *table.cells[row, column].notes])

    assert "copied" in stated("cifar100_same", "kd", "vgg13_vgg8")
    assert "70.22" in stated("cifar100_same", "at", "resnet110_resnet20")
    assert "76.23" in stated("cifar100_same", "dkd", "wrn_40_2_wrn_16_2")
    assert "weight 1 " in stated("cifar100_cross", "zscore_kd", "resnet50_mobilenet_v2")
    assert "64.14" in stated("cifar100_cross", "fitnet", "vgg13_mobilenet_v2")
    assert "contradicts" in stated("vit", "zscore_kd", "resnet56_t2t_vit_7")
    assert "Table 2" in stated("ablation", "weight_9", "plain")
    assert "weight 30 is a user's" in stated("cifar100_cross", "review_kd", "resnet50_mobilenet_v2")
    assert "beta 6" in stated("teacher_size", "dkd", "resnet50_wrn_16_2")
    assert "loss.nontarget_weight=6.0" in load("teacher_size").cells["dkd", "resnet50_wrn_16_2"].overrides
    assert "not comparable with the published ones" in " ".join(load("vit").notes)
    for column, yaml_beta in {"vgg13_vgg8": 6, "wrn_40_2_wrn_40_1": 6, "wrn_40_2_wrn_16_2": 6}.items():
        assert f"beta 2 in the log, {yaml_beta}" in stated("cifar100_same", "zscore_dkd", column)


def test_every_table_has_sources_and_a_way_to_train_or_a_reason_not_to() -> None:
    ours = ["ablation", "cifar100_cross", "cifar100_same", "cifar100_small", "cifar100_weight"]
    assert table_names() == [*ours, "imagenet", "imagenette_small", "plain_cnn", "teacher_size", "vit"]
    tables = [load(name) for name in table_names()]
    assert all(table.source and table.title and table.dataset for table in tables)
    assert all(row.source for table in tables for row in table.rows)
    cells = list(chain.from_iterable(table.cells.values() for table in tables))
    assert all(bool(cell.overrides) != bool(cell.untrainable) for cell in cells)
    assert sum(cell.value is not None for cell in cells) == 17 * 7 * 2 + 16 * 2 + 28 + 24 + 20 + 2
    trained = [table for table in tables if not table.name.startswith("imagenet")]  # their teachers are published
    teachers = [column for table in trained for column in table.columns if column.teacher and column.student]
    assert all(f"student={column.teacher}" in column.teacher_overrides for column in teachers)


SOUND = """
title: Mine
source: me
dataset: cifar100
recipe: cifar
baseline: {row: kd}
columns:
  pair: {experiment: cifar100/resnet56_resnet20, teacher: resnet56, student: resnet20, teacher_accuracy: 72.0}
rows:
  kd: {label: KD, preset: kd, published: [70.6], epochs: last, runs: 5, temperature: 4, weights: {kd_weight: 0.9}}
  ours: {label: Ours, preset: zscore_kd, published: [71.4], overrides: [loss.temperature=3]}
"""
DAMAGED = [
    ("[70.6]", "[.nan]", "published of row kd must be a number from 0 to 100, got nan"),
    ("[70.6]", "[706]", "published of row kd must be a number from 0 to 100, got 706"),
    ("[70.6]", "[best]", "published of row kd must be a number from 0 to 100, got 'best'"),
    ("[70.6]", "70.6", "published of row kd must be a list with a value (or null) for each column, got 70.6"),
    (
        "runs: 5",
        "runs: five",
        "runs of row kd must be a whole number from 1 on, got 'five': leave it out if",
    ),
    ("runs: 5", "runs: 0", "runs of row kd must be a whole number from 1 on, got 0"),
    ("runs: 5", "cells: {pair: {runs: -3}}", "runs of cell kd, pair must be a whole number from 1 on, got -3"),
    ("runs: 5", "cells: [pair]", "cells of row kd must be a mapping by column, got ['pair']"),
    ("runs: 5", "deviation: 0.2", "deviation of row kd is over runs, got runs=None: give at least 2"),
    ("runs: 5", "deviation: -0.2", "deviation of row kd must be a number from 0 to 100, got -0.2"),
    ("temperature: 4", "temperature: hot", "temperature of row kd must be a number from 0 on, got 'hot'"),
    ("{kd_weight: 0.9}", "0.9", "weights of row kd must be a mapping of names to numbers, got 0.9"),
    ("kd_weight: 0.9", "kd_weight: much", "weights of row kd, kd_weight, must be a number from 0 on, got 'much'"),
    ("accuracy: 72.0", "accuracy: yes", "teacher_accuracy of column pair must be a number from 0 to 100, got True"),
    ("label: KD", "label: 9", "label of row kd must be text, got 9: put it in quotes"),
    ("  ours:", "  0.9:", "row 0.9 is not a name: put it in quotes"),
    ("  pair:", "  1:", "column 1 is not a name: put it in quotes"),
    ("[loss.temperature=3]", "loss.temperature=3", "overrides of row ours must be a list of KEY=VALUE, got 'loss.temp"),
    ("[loss.temperature=3]", "[loss.temperature]", "overrides of row ours must be a list of KEY=VALUE, got ['loss.t"),
    ("preset: kd,", "preset: kd, note: {a: b},", "note of row kd must be a sentence or a list of them, got {'a': 'b'}"),
    ("{row: kd}", "{row: kdd}", "baseline names the row 'kdd', which the table does not have"),
    ("{row: kd}", "{column: pare}", "baseline names the column 'pare', which the table does not have"),
    (SOUND[SOUND.index("rows:") :], "rows: [kd]\n", "rows must be a mapping with at least one row, got ['kd']"),
    (SOUND[SOUND.index("rows:") :], "rows: {}\n", "rows must be a mapping with at least one row, got {}"),
    (SOUND[SOUND.index("rows:") :], "rows: null\n", "the key 'rows' is missing"),
    ("label: Ours", "label: KD", "the rows 'kd' and 'ours' have the same label 'KD': give each a `label` of its own"),
    (
        "rows:",
        "  again: {teacher: resnet56, student: resnet20}\nrows:",
        "the columns 'pair' and 'again' have the same label 'resnet56 -> resnet20': give each a `label` of its own",
    ),
]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """`table/mine.yaml` in a folder of the user's."""
    (tmp_path / "table").mkdir()
    path = tmp_path / "table" / "mine.yaml"
    path.write_text(SOUND)
    return path


@pytest.mark.parametrize(("there", "instead", "sentence"), DAMAGED)
def test_a_value_of_another_kind_is_one_sentence(file: Path, there: str, instead: str, sentence: str) -> None:
    assert load("mine", config_dir=file.parents[1]).cells["kd", "pair"].runs == 5
    assert there in SOUND
    file.write_text(SOUND.replace(there, instead))
    with pytest.raises(DamagedTable) as caught:
        load("mine", config_dir=file.parents[1])
    assert str(caught.value).startswith(f"{file}: {sentence}")


@pytest.mark.parametrize(
    ("there", "instead"),
    [
        ("baseline: {row: kd}", "overrides: null\nbaseline: {row: kd, column: null}\nnote: null"),
        ("teacher_accuracy: 72.0", "teacher_accuracy: 72.0, label: null, student_accuracy: null, teacher_recipe: null"),
        ("preset: kd,", "preset: kd, source: null, deviation: null, top5: null, cells: {pair: null, gone: null},"),
        ("preset: kd,", "preset: kd, cells: {pair: {weights: {kd_weight: null}}},"),
        ("weights: {kd_weight: 0.9}", "weights: {kd_weight: 0.9, ce_weight: null}"),
        ("preset: zscore_kd,", "preset: zscore_kd, epochs: null,"),
    ],
)
def test_null_equals_a_missing_key(file: Path, there: str, instead: str) -> None:
    sound = load("mine", config_dir=file.parents[1])
    assert there in SOUND
    file.write_text(SOUND.replace(there, instead))
    assert load("mine", config_dir=file.parents[1]) == sound


def test_null_in_a_cell_takes_the_rows_value_back(file: Path) -> None:
    file.write_text(SOUND.replace("preset: kd,", "preset: kd, deviation: 0.2, cells: {pair: {deviation: null}},"))
    table = load("mine", config_dir=file.parents[1])
    assert table.cells["kd", "pair"].deviation is None
    file.write_text(SOUND.replace("  ours:", "  theirs: null\n  ours:"))
    with pytest.raises(DamagedTable, match="theirs must be a mapping, got None"):
        load("mine", config_dir=file.parents[1])


def test_a_row_without_a_label_is_named_by_its_key(file: Path) -> None:
    file.write_text(SOUND.replace("label: Ours", "label: null"))
    assert load("mine", config_dir=file.parents[1]).row("ours").label == "ours"


def test_numbers_with_an_exponent_are_numbers_as_in_hydra(file: Path) -> None:
    file.write_text(SOUND.replace("temperature: 4", "temperature: 4e0"))
    assert load("mine", config_dir=file.parents[1]).cells["kd", "pair"].temperature == 4.0

"""`distill report`: a page of real runs, its numbers found again, and every reason to refuse or leave something out."""

import importlib.util
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from earlier import unseal

import distill
import distill.cli
from distill.cli import main as command
from distill.cli.arguments import FAILED, FINISHED, REFUSED
from distill.data import digits
from distill.report import measuring
from distill.report.page import PAGE
from distill.report.runs import Report
from distill.report.sections import embedding
from distill.runs.store import scan

Capture = pytest.CaptureFixture[str]
TINY = (
    "dataset=digits",
    "dataset.limit=120",
    "teacher=resnet8",
    "student=resnet8",
    "recipe.epochs=2",
    "engine.device=cpu",
)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with a teacher, a student by kd and one by ce, each of two epochs on a few digits."""
    store = tmp_path_factory.mktemp("trained") / "runs"
    words = [*TINY, f"runs_dir={store}"]
    assert distill.cli.main(["train", "-m", *words, "teacher.recipe.epochs=2", "loss=kd,ce", "seed=1"]) == FINISHED
    return store


def ids(store: Path) -> dict[str, str]:
    """Ids by role."""
    found = {}
    for record in scan(store):
        teaches = record.identity["seed"] == 0
        found["teacher" if teaches else str(record.names["loss"])] = record.run_id
    return found


@pytest.fixture
def store(trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the store in the current folder."""
    shutil.copytree(trained, tmp_path / "runs")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DISTILL_RUNS", "runs")
    return tmp_path / "runs"


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> list[Report]:
    """What would be drawn: the page is left out, for it takes its time."""
    found: list[Report] = []

    def only_collect(report: Report) -> dict[str, str]:
        found.append(report)
        return {PAGE: "a page"}

    monkeypatch.setattr(measuring, "files_of", only_collect)
    return found


def folder(store: Path, run_id: str) -> Path:
    """The folder of a run."""
    (found,) = store.glob(f"*{run_id}")
    return found


def logits(run: Path) -> tuple[np.ndarray, np.ndarray]:
    """The logits of `distill.load` for the test images, and their labels."""
    network, data = distill.load(run), digits()
    with torch.no_grad():
        return network(network.normalise(data.evaluation_images)).logits.numpy(), data.evaluation_labels


def test_the_page_of_a_real_run(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    monkeypatch.setattr(embedding, "IMAGES", 10)  # t-SNE takes its time
    runs, out = ids(trained), tmp_path / "page"
    words = [
        f"run={runs['kd']}",
        f"against={runs['ce']}",
        f"runs_dir={trained}",
        "engine.device=cpu",
        "--out",
        str(out),
    ]
    assert command(["report", *words]) == FINISHED
    assert capsys.readouterr().out == f"wrote {out / PAGE}\n"
    record = json.loads((out / "report.json").read_text())
    assert [(each["role"], each["id"]) for each in record["runs"]] == [
        ("teacher", runs["teacher"]),
        ("baseline", runs["ce"]),
        ("student", runs["kd"]),
    ]
    assert record["missing"] == []
    assert len(list((out / "figures").iterdir())) == 28
    student, labels = logits(folder(trained, runs["kd"]))
    teacher, _ = logits(folder(trained, runs["teacher"]))
    fidelity = json.loads((out / "figures/fidelity.json").read_text())["students"]
    agreement = 100 * np.mean(student.argmax(axis=1) == teacher.argmax(axis=1))
    assert fidelity["kd"]["agreement"] == pytest.approx(agreement)
    shares = [torch.tensor(each).double().div(4).log_softmax(dim=1) for each in (student, teacher)]
    kl = (shares[1].exp() * (shares[1] - shares[0])).sum(dim=1).mean()
    assert fidelity["kd"]["kl"]["4"] == pytest.approx(float(kl), rel=1e-3)
    recorded = json.loads((folder(trained, runs["kd"]) / "result.json").read_text())["last"]["accuracy"]
    assert fidelity["kd"]["accuracy"] == pytest.approx(recorded) == 100 * np.mean(student.argmax(axis=1) == labels)
    nll = torch.nn.functional.cross_entropy(torch.tensor(student), torch.tensor(labels))
    raw = json.loads((out / "figures/reliability.json").read_text())["networks"]["kd"]["raw"]
    assert raw["nll"] == pytest.approx(float(nll), rel=1e-4)
    curves = json.loads((out / "figures/curves.json").read_text())["runs"]
    assert curves["kd"]["accuracy"][-1] == recorded
    gradients = json.loads((out / "figures/gradient_norms.json").read_text())["runs"]
    assert {name: set(run["terms"]) for name, run in gradients.items()} == {"kd": {"ce", "kd"}, "ce": {"ce"}}
    lines = (folder(trained, runs["kd"]) / "metrics.jsonl").read_text().splitlines()
    norms = [json.loads(line)["gradient_norms"]["kd"] for line in lines]
    assert gradients["kd"]["terms"]["kd"] == norms
    text = (out / PAGE).read_text()
    assert f"{agreement:.2f}" in text
    assert str(trained) not in text


def test_edited_metrics_are_refused(store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = ids(store)["ce"]
    (path,) = store.glob(f"*-{run}/metrics.jsonl")
    path.write_text(path.read_text().replace('"accuracy": ', '"accuracy": 1', 1))
    assert distill.cli.main(["report", f"run={run}"]) == FAILED
    assert "metrics.jsonl has been changed" in capsys.readouterr().err
    assert not Path("report").exists()


def test_results_without_weights(store: Path, seen: list[Report], capsys: Capture) -> None:
    runs = ids(store)
    (folder(store, runs["kd"]) / "student.safetensors").unlink()
    assert command(["report", f"run={runs['kd'][:8]}", f"against={runs['ce']}"]) == FINISHED
    printed = capsys.readouterr().out.splitlines()
    where = Path("report", folder(store, runs["kd"]).name)
    assert printed == [
        "left out: kd: its weights are not here, so its network could not be evaluated",
        f"wrote {where / PAGE}",
    ]
    (whole,) = seen
    assert [len(each.history) for each in whole.everyone] == [2, 2, 2]
    assert set(whole.logits) == {"teacher resnet8", "ce"}
    assert whole.run.provenance["versions"]


def test_data_that_are_not_at_hand(
    store: Path, seen: list[Report], monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    from distill.config.faults import Fault, Refused

    def gone(*_: object) -> object:
        raise Refused([Fault("dataset", "absent", "they are gone")])

    monkeypatch.setattr(measuring, "run_dataset", gone)
    assert command(["report", f"run={ids(store)['ce']}"]) == FINISHED
    assert capsys.readouterr().out.startswith("left out: ce: its data are not here: they are gone\n")
    assert seen[0].images is None
    assert seen[0].logits == {}


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda path: shutil.rmtree(path), "is not in runs: bring it by distill import"),
        (
            lambda path: edit(path / "result.json", weights_sha256="0" * 64),
            "have changed since",
        ),
    ],
    ids=["gone", "another"],
)
def test_a_teacher_that_is_not_here(
    store: Path, seen: list[Report], capsys: Capture, change: Callable[[Path], object], sentence: str
) -> None:
    runs = ids(store)
    change(folder(store, runs["teacher"]))
    assert command(["report", f"run={runs['kd']}"]) == FINISHED
    assert sentence in capsys.readouterr().out
    assert seen[0].teacher is None
    assert set(seen[0].logits) == {"kd"}


def test_a_record_cannot_send_escapes_to_the_terminal(store: Path, seen: list[Report], capsys: Capture) -> None:
    run = folder(store, ids(store)["kd"])
    teacher = json.loads((run / "result.json").read_text())["teacher"]
    edit(run / "result.json", teacher={**teacher, "run_id": "a\x1b[2J\nb"})
    assert command(["report", f"run={run}"]) == FINISHED
    printed = capsys.readouterr().out
    assert r"the run of the teacher, a\x1b[2J\nb, is not in" in printed
    assert printed.replace("\n", "").isprintable()


def edit(path: Path, **facts: object) -> None:
    """Change facts of a JSON file."""
    if path.name == "result.json":
        unseal(path.parent)
    path.write_text(json.dumps({**json.loads(path.read_text()), **facts}))


def test_levels_of_accuracy_and_the_place(store: Path, seen: list[Report], capsys: Capture) -> None:
    runs = ids(store)
    words = [f"run={runs['ce']}", "accuracy=10,20.5", "--out", "here"]
    assert command(["report", *words]) == FINISHED
    assert seen[0].targets == (10.0, 20.5)
    assert command(["report", *words]) == FINISHED
    assert command(["report", f"run={runs['kd']}", "--out", "here"]) == REFUSED
    assert f"--out here holds the report of run {runs['ce']}: choose another --out DIR" in capsys.readouterr().err


def test_damaged_weights_fail(store: Path, capsys: Capture) -> None:
    runs = ids(store)
    path = folder(store, runs["ce"]) / "student.safetensors"
    path.write_bytes(path.read_bytes()[:-4] + b"abcd")
    assert command(["report", f"run={runs['ce']}"]) == FAILED
    assert path.parent.name in capsys.readouterr().err
    assert not Path("report").exists()


@pytest.mark.parametrize(
    ("words", "sentences"),
    [
        ([], ["report needs a subject: add run=ID"]),
        (["run=zzz"], ["no run matches 'zzz'"]),
        (["run=KD", "against=KD"], ["is named twice"]),
        (["run=KD", "accuracy=much,120"], ["got 'much'", "got '120'"]),
        (["run=KD", "against=nobody", "--out=runs"], ["no run matches 'nobody'", "is not empty and holds no report"]),
        (["run=KD", "dataset.download=perhaps"], ["dataset.download cannot be 'perhaps'"]),
        (["run=KD", "agianst=x"], ["did you mean 'against'?"]),
        (["run=KD", "--format=html"], ["unknown option --format"]),
        (["run=KD", "dataset.npz=x.npz"], ["dataset.npz is not a key of digits: leave it out"]),
        (["run=KD", "engine.device=abacus"], ["engine.device=abacus cannot be used here"]),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_refusals(store: Path, capsys: Capture, words: list[str], sentences: list[str]) -> None:
    assert command(["report", *(word.replace("KD", ids(store)["kd"]) for word in words)]) == REFUSED
    printed = capsys.readouterr()
    assert printed.out == ""
    lines = printed.err.splitlines()
    assert len(lines) == len(sentences)
    assert all(sentence in line for sentence, line in zip(sentences, lines, strict=True)), lines
    assert not Path("report").exists()


def test_runs_of_unlike_images_are_not_compared(store: Path, capsys: Capture) -> None:
    import yaml

    runs = ids(store)
    path = unseal(folder(store, runs["ce"])) / "config.yaml"
    content = yaml.safe_load(path.read_text())
    content["identity"]["data"]["test"] = "0" * 64
    path.write_text(yaml.safe_dump(content))
    assert command(["report", f"run={runs['kd']}", f"against={runs['ce']}"]) == REFUSED
    assert "was evaluated on other images than run=" in capsys.readouterr().err


def test_without_matplotlib_one_sentence_names_the_extra(
    store: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    monkeypatch.setattr(
        "distill.cli.report.find_spec", lambda name: None if name == "matplotlib" else importlib.util.find_spec(name)
    )
    assert command(["report", f"run={ids(store)['kd']}"]) == REFUSED
    sentence = 'report draws with matplotlib, which is not installed: pip install "distill[report]"\n'
    assert capsys.readouterr().err == sentence


def test_a_run_in_an_empty_store_is_refused(runs_dir: Path, capsys: Capture) -> None:
    assert command(["report", "run=abc", f"runs_dir={runs_dir}"]) == REFUSED
    assert f"no run matches 'abc': {runs_dir} holds no runs; `distill train` makes one" in capsys.readouterr().err

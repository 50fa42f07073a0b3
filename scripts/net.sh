#!/usr/bin/env bash
# Compares this checkout's training with that of commit ba96155, byte for byte: metrics.jsonl and the student's weights of
# sweep=demo (one seed, two epochs) and of two steps of every loss preset, twice, on tiny networks and generated images.
# Both versions run side by side with the packages of .venv, one thread each, in fp32. Runs are matched by their id.
# Prints what differs; exits with 1 if anything does. Changes that are not committed are part of what is compared.
#
#   scripts/net.sh [FOLDER]     keeps the runs of both versions in FOLDER (default: a temporary one, removed at the end);
#                               those of the old version are used again when they are complete
set -euo pipefail
cd "$(dirname "$0")/.."
root=$PWD
base=ba96155
scratch=$(mktemp -d)
work=${1:-$scratch/work}
mkdir -p "$work"
work=$(cd "$work" && pwd)
trap 'git worktree remove --force "$scratch/base" 2>/dev/null || true; rm -rf "$scratch"' EXIT
git worktree add --quiet --detach "$scratch/base" "$base"
export OMP_NUM_THREADS=1 MKL_NUM_THREADS=1 PYTHONDONTWRITEBYTECODE=1
unset DISTILL_RUNS DISTILL_DATA PYTHONPATH

# distill of one tree only: the editable installation is taken off the path.
distill_of() {
    local tree=$1
    shift
    "$root/.venv/bin/python" -c '
import os, sys
tree = sys.argv.pop(1)
sys.path[:] = [tree, *(path for path in sys.path if path and not os.path.isdir(os.path.join(path, "distill")))]
from distill.cli import main
sys.exit(main())' "$tree" "$@"
}

losses=$(cd "$scratch" && distill_of "$scratch/base" losses | tail -n +2 | cut -f1)
[ "$(wc -l <<<"$losses")" = 51 ] || { echo "expected 51 loss presets in $base" >&2; exit 1; }

tiny="dataset=synthetic dataset.image_size=16 dataset.classes=4 dataset.train_size=24 dataset.test_size=16 student=resnet8 \
teacher=resnet14 recipe.batch_size=16 recipe.epochs=2 teacher.recipe.batch_size=16 teacher.recipe.epochs=1"
pair="pair.zscore_temperature=2 pair.zscore_weight=9 pair.dkd_target_weight=1 pair.dkd_nontarget_weight=4 \
pair.zscore_dkd_temperature=2 pair.zscore_dkd_target_weight=3 pair.zscore_dkd_nontarget_weight=5 \
pair.zscore_mlkd_temperature=2 pair.zscore_mlkd_weight=7"

# All commands of one version. An epoch of the tiny data is two steps, the second one a smaller batch.
run_all() {
    local tree=$1 folder=$2
    rm -rf "$folder"
    mkdir -p "$folder"
    cd "$folder"
    train() {
        echo "> $*"
        distill_of "$tree" train "$@" engine.threads=1 engine.device=cpu || echo "EXIT CODE $?"
    }
    train sweep=demo sweep.params.seed=1 recipe.epochs=2 teacher.recipe.epochs=2
    # shellcheck disable=SC2086
    train -m hydra/launcher=cohort loss="$(paste -sd, <<<"$losses")" $tiny $pair
    # the table of a teacher's logits, a hold-out, cohort members of other seeds, and one run by itself
    # shellcheck disable=SC2086
    train -m hydra/launcher=cohort loss=kd,zscore_kd seed=2,3 teacher.source=table dataset.holdout=8 $tiny
    # shellcheck disable=SC2086
    train loss=dkd recipe=cifar_cosine dataset.pad=2 student=plain_cnn $tiny
}
[ -f "$work/base.complete" ] || { (run_all "$scratch/base" "$work/base") >"$work/base.log" 2>&1 && touch "$work/base.complete"; } &
(run_all "$root" "$work/head") >"$work/head.log" 2>&1 &
wait

"$root/.venv/bin/python" - "$work/base" "$work/head" <<'PYTHON'
import json
import sys
from pathlib import Path

RUNS = 65  # teachers included


def runs(store: Path) -> dict[str, Path]:
    """Finished runs by id."""
    return {file.parent.name[-12:]: file.parent for file in store.glob("runs/*/result.json")}


def tensors(file: Path) -> dict[str, tuple]:
    """Type, shape and bytes of every tensor of a safetensors file; its metadata is left out."""
    data = file.read_bytes()
    start = 8 + int.from_bytes(data[:8], "little")
    header = json.loads(data[8:start])
    header.pop("__metadata__", None)
    return {
        name: (entry["dtype"], entry["shape"], data[start + entry["data_offsets"][0] : start + entry["data_offsets"][1]])
        for name, entry in header.items()
    }


base, head = (runs(Path(store)) for store in sys.argv[1:])
differences = []
if len(base) != RUNS:
    differences.append(f"the old version finished {len(base)} runs, expected {RUNS}: see its log")
for missing in sorted(base.keys() - head.keys()):
    differences.append(f"{base[missing].name}: this version has no finished run of that id")
for new in sorted(head.keys() - base.keys()):
    differences.append(f"{head[new].name}: the old version has no finished run of that id")
for run in sorted(base.keys() & head.keys()):
    old, new = (store[run] / "metrics.jsonl" for store in (base, head))
    if old.read_bytes() != new.read_bytes():
        lines = zip(old.read_text().splitlines(), new.read_text().splitlines(), strict=False)
        first = next(((a, b) for a, b in lines if a != b), ("(one file is longer)", ""))
        differences.append(f"{head[run].name}: metrics.jsonl\n  old {first[0]}\n  new {first[1]}")
    old, new = (tensors(store[run] / "student.safetensors") for store in (base, head))
    if old != new:
        names = [name for name in sorted(old.keys() | new.keys()) if old.get(name) != new.get(name)]
        differences.append(f"{head[run].name}: {len(names)} tensors of student.safetensors, first {names[0]}")
print(*differences, sep="\n", end="\n" if differences else "")
print(f"{len(base.keys() & head.keys())} runs compared, {len(differences)} differences")
sys.exit(bool(differences))
PYTHON

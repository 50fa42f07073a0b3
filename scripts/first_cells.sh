#!/usr/bin/env bash
# The first measured cells of a paper's table on a machine with a GPU that is lent for half an hour, in calls of ten
# minutes, and may be taken back at any time. What matters most comes first, and every step leaves its result in OUT:
#
#   OUT=out WHEELS=wheels scripts/first_cells.sh imports tests step lanes
#   OUT=out DATA=cifar100.npz scripts/first_cells.sh teacher table keep
#   OUT=out DATA=cifar100.npz scripts/first_cells.sh cells keep
#   OUT=out DATA=cifar100.npz scripts/first_cells.sh checks keep profile
#
#   imports  installs the wheels (scripts/wheels.sh) and imports what training needs, one line each
#   tests    the tests marked gpu, those of captured steps first
#   step     milliseconds and graph nodes of one captured step
#   lanes    the same for eight students side by side
#   teacher  trains the teacher; at the end of the call it stops, and OUT/checkpoint.* (some 50 MB) continue it in the next call.
#            They may be too large to be carried to another machine in one call: carry some in a call before it.
#            A trained one is kept as fp16 weights (OUT/teacher.tgz) and taken back from there: that is the teacher from now on
#   table    the table of its logits, with one epoch of a student
#   cells    fills the table's column, the most informative cell first, until the end of the call
#   checks   one cell again with the live teacher, and one with the student in fp32 under the same teacher
#   keep     the table with its verdicts, and the runs as small files
#   profile  launches, seen by a profiler, which slows down what follows it: last, in a process of its own
#
# Every step may be typed again: what is finished is not done twice. A step ends with its call, and one for which no time
# is left is skipped, except keep. IN: the OUT folder of an earlier call on another machine; its teacher and its finished
# runs are used. LEFT: the seconds left. OUT has at most 8 files, below 16 MiB each.
# DISTILL, PYTEST and BENCH name the commands; a wrapper must pass the signal on that ends a step.
# Rehearsal on a CPU with a tiny pair: tests/scripts/test_first_cells.py.
set -euo pipefail

: "${OUT:=out}" "${IN=}" "${RUNS:=runs/first_cells}" "${WHEELS=}" "${DATA=}" "${SEEDS:=2}"
: "${LEFT:=1800}" "${CALL:=570}" "${SAVING:=45}" "${PYTHON:=python3}"
: "${TABLE:=cifar100_same}" "${COLUMN:=resnet32x4_resnet8x4}" "${TEACHER:=resnet32x4}" "${STUDENT:=resnet8x4}"
: "${DATASET:=cifar100}" "${RECIPE:=cifar}" "${PRECISION:=auto}" "${CONFIGS=}" "${CHECKED:=zscore_kd}"
: "${ROWS=ce,kd,zscore_kd,kd_w9_t2,kd_w09_t2,zscore_kd_w09}" "${EXPERIMENT:=cifar100/$COLUMN}" "${SIZES=}"
: "${DISTILL:=$PYTHON -m distill}" "${PYTEST:=$PYTHON -m pytest}" "${BENCH:=$PYTHON -m scripts.bench}"
: "${TESTS=tests/training/test_captured_on_gpu.py tests/training/test_on_gpu.py tests/data tests/teachers tests/losses}"
MODULES=(torch torchvision timm tensorboard numpy scipy sklearn PIL yaml safetensors jinja2
    huggingface_hub hydra omegaconf antlr4 simplejpeg pytest)
STEPS=(imports tests step lanes teacher table cells checks keep profile)
# seconds on one H200, estimated
declare -A EXPECTED=([imports]=30 [tests]=180 [step]=90 [lanes]=60 [teacher]=480 [table]=80 [cells]=540 [checks]=480
    [keep]=15 [profile]=60)

if (($# == 0)); then
    sed -n '2,27p' "$0"
    exit 2
fi
for step in "$@"; do
    if [[ " ${STEPS[*]} " != *" $step "* ]]; then
        echo "$step is no step: choose from ${STEPS[*]}" >&2
        exit 2
    fi
done

mkdir -p "$OUT" "$RUNS"
called=$(date +%s)
# on the same machine the seconds count from the first call
[[ -f $RUNS/ends ]] || echo $((called + LEFT)) >"$RUNS/ends"
site=$(realpath "$RUNS")/site store=$RUNS/store kept=$RUNS/teacher_kept
export PYTHONPATH=$site:$PWD${PYTHONPATH:+:$PYTHONPATH} PYTHONUNBUFFERED=1
data=() presets=()
if [[ -n $DATA ]]; then data=("dataset.npz=$DATA"); fi
if [[ -n $CONFIGS ]]; then presets=(--config-dir "$CONFIGS"); fi
common=("dataset=$DATASET" "${data[@]}" "recipe=$RECIPE" "${presets[@]}")
student=("${common[@]}" "student=$STUDENT" "loss=$CHECKED" seed=1)

left() { echo $(($(<"$RUNS/ends") - $(date +%s))); }

in_this_call() { # seconds until the end of the call or of the machine, less those for saving
    local call=$((called + CALL - $(date +%s))) machine
    machine=$(left)
    local least=$((call < machine ? call : machine))
    echo $((least > SAVING + 1 ? least - SAVING : 1))
}

# in the foreground, or the process gets the signal twice: it saves its state at the first and dies at the second
within() { timeout --foreground --kill-after=40 --signal=TERM "$(in_this_call)" "$@"; }

or_unfinished() { # STEP: why it ended, where its command did not succeed
    (($(in_this_call) > 1)) && return 1
    echo "$1 is unfinished: type '$1' again"
    return "$UNFINISHED"
}

imports() {
    if [[ -n $WHEELS ]]; then
        "$PYTHON" -m pip install -q --no-index --no-deps --upgrade --target "$site" "$WHEELS"/*.whl
    fi
    "$PYTHON" - "${MODULES[@]}" <<'P'
import importlib, os, sys

missing = 0
for name in sys.argv[1:]:
    try:
        print(name, getattr(importlib.import_module(name), "__version__", "imported"))
    except Exception as error:
        missing += 1
        print(f"{name} MISSING: {type(error).__name__}: {error}")
import torch
print(torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU")
sys.exit(missing > 0 or not (torch.cuda.is_available() or os.environ.get("DISTILL_TEST_STAND_IN")))
P
}

# the versions there are others than the tests were written with, and may warn
tests() { within $PYTEST -q -p no:cacheprovider -m gpu -W default $TESTS; }

measured() {
    within $BENCH "experiment=$EXPERIMENT" "rows=$1" $SIZES "${presets[@]}" --json "$OUT/$1.json"
}

step() { measured captured; }
lanes() { measured lanes; }
profile() { measured kernels; }

checkpoint() { # of the teacher, unfinished or not, in parts
    tar -C "$RUNS/teacher" --exclude=previous.safetensors --exclude=lock -cz . | split -b 15M - "$OUT/checkpoint."
}

teacher_run() { compgen -G "$RUNS/teacher/$TEACHER-*/$1"; }

teacher() {
    if [[ -n $IN && -f $IN/teacher.tgz && ! -d $kept ]]; then
        tar -C "$RUNS" -xzf "$IN/teacher.tgz"
    elif [[ -n $IN && ! -d $RUNS/teacher ]] && compgen -G "$IN/checkpoint.*" >/dev/null; then
        mkdir -p "$RUNS/teacher"
        cat "$IN"/checkpoint.* | tar -C "$RUNS/teacher" -xz
    fi
    if [[ ! -d $kept ]]; then
        # compiling gains little for cross-entropy, and a failure would cost all later steps
        within $DISTILL train "${common[@]}" "student=$TEACHER" loss=ce seed=0 \
            "precision=$PRECISION" engine.compile=false "runs_dir=$RUNS/teacher" || true
        rm -f "$OUT"/checkpoint.*
        if ! teacher_run result.json >/dev/null; then
            teacher_run last.safetensors >/dev/null || { echo "the teacher has no checkpoint"; return 1; }
            checkpoint
            echo "the teacher is unfinished: type 'teacher' again, on another machine with IN=FOLDER of checkpoint.*"
            return "$UNFINISHED"
        fi
        checkpoint # the export measures the rounded weights on a CPU: the call may end before it does
        $DISTILL export "run=$(dirname "$(teacher_run result.json)")" "${data[@]}" --format safetensors --dtype fp16 \
            --out "$kept"
    fi
    tar -C "$RUNS" -czf "$OUT/teacher.tgz" teacher_kept
    rm -f "$OUT"/checkpoint.*
    $DISTILL import "$kept/model.safetensors" "${data[@]}" "runs_dir=$store"
    if [[ -n $IN && -f $IN/runs.tgz && ! -d $RUNS/brought ]]; then
        mkdir -p "$RUNS/brought"
        tar -C "$RUNS/brought" -xzf "$IN/runs.tgz"
        $DISTILL import "$RUNS/brought/store" "runs_dir=$store"
    fi
}

table() {
    within $DISTILL train "${student[@]}" "precision=$PRECISION" "teacher.run=$(echo "$store/$TEACHER"-*)" \
        teacher.source=table recipe.epochs=1 "runs_dir=$RUNS/table" || or_unfinished table
}

cells() {
    within $DISTILL fill "table=$TABLE" "columns=$COLUMN" ${ROWS:+"rows=$ROWS"} \
        "seeds=$SEEDS" "budget=$(($(in_this_call) > 20 ? $(in_this_call) - 10 : 10))s" "${data[@]}" \
        "precision=$PRECISION" "runs_dir=$store" "${presets[@]}" || or_unfinished cells
}

checks() {
    local form taught
    for form in live fp32; do
        if [[ ! -d $RUNS/$form ]]; then
            rm -rf "$RUNS/$form.part" # of a call that ended meanwhile
            mkdir "$RUNS/$form.part"
            cp -rl "$store/$TEACHER"-* "$RUNS/$form.part/" # links: its table has gigabytes
            mv "$RUNS/$form.part" "$RUNS/$form"
        fi
    done
    taught=$(sed -n 's/.*"precision": "\([a-z0-9]*\)".*/\1/p' "$store/$TEACHER"-*/result.json)
    within $DISTILL train "${student[@]}" "teacher=$TEACHER" "precision=$PRECISION" teacher.source=live \
        "runs_dir=$RUNS/live" \
        && within $DISTILL train "${student[@]}" "teacher=$TEACHER" precision=fp32 "teacher.precision=$taught" \
            "runs_dir=$RUNS/fp32" || or_unfinished checks
}

keep() {
    $DISTILL table "table=$TABLE" "columns=$COLUMN" "runs_dir=$store" "${presets[@]}"
    local form
    for form in store live fp32; do
        if [[ -d $RUNS/$form ]]; then
            $DISTILL export --results "runs_dir=$RUNS/$form" --out "$RUNS/kept/$form"
        fi
    done
    tar -C "$RUNS/kept" -czf "$OUT/runs.tgz" .
}

UNFINISHED=75 # a step's exit status: it goes on in the next call
failed=0
for step in "$@"; do
    begun=$(date +%s)
    if [[ $step != keep ]] && (($(in_this_call) <= 1)); then
        echo "== $step is skipped: no time is left in this call" | tee -a "$OUT/log.txt"
        continue
    fi
    echo "== $step: about ${EXPECTED[$step]} s expected, $(left) s left" | tee -a "$OUT/log.txt"
    set +e # in a subshell of its own, since bash forgets -e inside of a condition
    (set -e; "$step") 2>&1 | tee -a "$OUT/log.txt"
    code=${PIPESTATUS[0]}
    set -e
    ending=$( ((code == 0)) && echo "took" || echo "failed ($code) after")
    if ((code == UNFINISHED)); then ending="is unfinished after"; fi
    echo "== $step $ending $(($(date +%s) - begun)) s, $(left) s left" | tee -a "$OUT/log.txt"
    if ((code != 0)); then
        ((code == UNFINISHED)) || failed=1
        # without imports, a teacher or its table nothing else is possible; whatever else fails stops nobody
        case $step in imports | teacher | table) exit "$failed" ;; esac
    fi
done
exit "$failed"

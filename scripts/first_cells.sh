#!/usr/bin/env bash
# The first measured cells of a paper's table on a machine with a GPU, in steps that each keep their result in OUT:
#
#   DATA=cifar100.npz OUT=out scripts/first_cells.sh tests bench teacher cells checks keep
#
#   tests    the tests marked gpu
#   bench    launches and time of a step: peer, eager, compiled, captured, cohorts; an epoch
#   teacher  trains the teacher, keeps its weights as fp16 and takes them back from there: that is the teacher from now on
#   cells    fills the table's column, the most informative cell first, until BUDGET
#   checks   one cell again with the live teacher, and one with the student in fp32 under the same teacher
#   keep     the table with its verdicts, and the runs as small files, in OUT
#
# Every step may be typed again: what is finished is not done twice. DISTILL, PYTEST and BENCH name the commands. CPU rehearsal
# with a tiny pair: CONFIGS=DIR holds table/NAME.yaml with a column of small networks, and
#
#   TABLE=NAME COLUMN=small TEACHER=resnet14 STUDENT=resnet8 DATASET=digits RECIPE=demo DATA= scripts/first_cells.sh ...
set -euo pipefail

: "${OUT:=out}" "${RUNS:=runs/first_cells}" "${DATA=}" "${BUDGET:=9m}" "${SEEDS:=2}"
: "${TABLE:=cifar100_same}" "${COLUMN:=resnet32x4_resnet8x4}" "${TEACHER:=resnet32x4}" "${STUDENT:=resnet8x4}"
: "${DATASET:=cifar100}" "${RECIPE:=cifar}" "${PRECISION:=auto}" "${CONFIGS=}" "${CHECKED:=zscore_kd}"
: "${ROWS=ce,kd,zscore_kd,kd_w9_t2,kd_w09_t2,zscore_kd_w09}" "${ROWS_OF_BENCH=rows=kernels,step,teacher,student,compile,cohort,epoch}"
: "${DISTILL:=distill}" "${PYTEST:=pytest}" "${BENCH:=python -m scripts.bench}"

mkdir -p "$OUT"
data=() presets=()
if [[ -n "$DATA" ]]; then data=("dataset.npz=$DATA"); fi
if [[ -n "$CONFIGS" ]]; then presets=(--config-dir "$CONFIGS"); fi
store=$RUNS/store  # of the students, with the teacher as it was kept
pair=("dataset=$DATASET" "${data[@]}" "recipe=$RECIPE" "student=$STUDENT" "teacher=$TEACHER" seed=1 "${presets[@]}")

tests() { $PYTEST -q -m gpu | tee "$OUT/tests.txt"; }

bench() { $BENCH "experiment=cifar100/$COLUMN" $ROWS_OF_BENCH --json "$OUT/bench.json" | tee "$OUT/bench.txt"; }

teacher() {
    $DISTILL train "student=$TEACHER" loss=ce seed=0 "dataset=$DATASET" "${data[@]}" "recipe=$RECIPE" \
        "precision=$PRECISION" "runs_dir=$RUNS/teacher" "${presets[@]}" | tee "$OUT/teacher.txt"
    local run
    run=$(echo "$RUNS"/teacher/"$TEACHER"-*)
    $DISTILL export "run=$run" "${data[@]}" --format safetensors --dtype fp16 --out "$OUT/$TEACHER"
    $DISTILL import "$OUT/$TEACHER/model.safetensors" "${data[@]}" "runs_dir=$store" | tee "$OUT/taken_back.txt"
}

cells() {
    $DISTILL fill "table=$TABLE" "columns=$COLUMN" ${ROWS:+"rows=$ROWS"} "seeds=$SEEDS" "budget=$BUDGET" "${data[@]}" \
        "precision=$PRECISION" "runs_dir=$store" "${presets[@]}" | tee -a "$OUT/cells.txt"
}

checks() {
    local form
    for form in live fp32; do
        mkdir -p "$RUNS/$form"
        cp -rn "$store/$TEACHER"-* "$RUNS/$form/"
    done
    local taught
    taught=$(sed -n 's/.*"precision": "\([a-z0-9]*\)".*/\1/p' "$store/$TEACHER"-*/result.json)
    $DISTILL train "${pair[@]}" "loss=$CHECKED" "precision=$PRECISION" teacher.source=live "runs_dir=$RUNS/live" \
        | tee "$OUT/live.txt"
    $DISTILL train "${pair[@]}" "loss=$CHECKED" precision=fp32 "teacher.precision=$taught" "runs_dir=$RUNS/fp32" \
        | tee "$OUT/fp32.txt"
}

keep() {
    $DISTILL table "table=$TABLE" "columns=$COLUMN" "runs_dir=$store" "${presets[@]}" | tee "$OUT/table.txt"
    local form
    for form in store live fp32; do
        if [[ -d "$RUNS/$form" ]]; then
            $DISTILL export --results "runs_dir=$RUNS/$form" --out "$RUNS/kept/$form"
        fi
    done
    tar -C "$RUNS/kept" -czf "$OUT/runs.tar.gz" .
}

if (($# == 0)); then
    sed -n '2,17p' "$0"
    exit 2
fi
for step in "$@"; do
    case $step in
        tests | bench | teacher | cells | checks | keep) ;;
        *) echo "$step is no step: choose from tests, bench, teacher, cells, checks, keep" >&2; exit 2 ;;
    esac
done
failed=0
for step in "$@"; do
    echo "== $step"
    set +e  # in a subshell of its own, since bash forgets -e inside of a condition
    (set -e; "$step")
    code=$?
    set -e
    if ((code != 0)); then
        echo "== $step failed ($code)" >&2
        failed=1
        # what the tests and the bench find stops nobody; without a teacher there are no cells
        [[ $step == tests || $step == bench ]] || exit 1
    fi
done
exit "$failed"

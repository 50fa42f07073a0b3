#!/usr/bin/env bash
# Wheels of what a machine lacks that reaches no package index, made on one that does (Linux x86_64, CPython 3.12):
#
#   scripts/wheels.sh DIR [PACKAGE ...]
#
# By default the packages that a machine with torch, torchvision, timm, tensorboard and scikit-learn lacks. The versions
# are those of .ci/constraints.txt. `WHEELS=DIR scripts/first_cells.sh imports` installs them there and names what is still
# missing.
set -euo pipefail

if (($# == 0)); then
    sed -n '2,8p' "$0"
    exit 2
fi
: "${PYTHON:=python3}" "${VERSION:=3.12}"
folder=$1
shift
packages=("${@:-}")
if (($# == 0)); then packages=(hydra-core omegaconf antlr4-python3-runtime simplejpeg); fi
constraints=$(dirname "$0")/../.ci/constraints.txt
platforms=()
for platform in manylinux_2_28 manylinux_2_27 manylinux_2_17 manylinux2014 manylinux1; do
    platforms+=(--platform "${platform}_x86_64")
done
for package in "${packages[@]}"; do
    if [[ $package == antlr4-python3-runtime ]]; then  # published as source alone; the wheel is pure Python
        "$PYTHON" -m pip wheel -q --no-deps -c "$constraints" -w "$folder" "$package"
    else
        "$PYTHON" -m pip download -q --no-deps --only-binary=:all: --implementation cp --python-version "$VERSION" \
            "${platforms[@]}" -c "$constraints" -d "$folder" "$package"
    fi
done
ls -l "$folder"

# Everything runs from the environment in .venv, which the first target that needs it creates.
PYTHON ?= python3
ARGS ?=

.DEFAULT_GOAL := help
.PHONY: help env demo test bench lint format clean

help:  ## list these targets
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):[^#]*## */\1\t/' \
		| while IFS="$$(printf '\t')" read -r name what; do printf 'make %-8s %s\n' "$$name" "$$what"; done

env: .venv/.installed  ## create the environment in .venv (needs a package index; PYTHON=python3.12 picks the interpreter)

# The stamp is written last: an installation that broke off is taken up again, a finished one is skipped.
.venv/.installed: pyproject.toml .ci/constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo "distill needs Python 3.11 or newer, but '$(PYTHON)' is not: name one, as in 'make env PYTHON=python3.12'." >&2; \
		exit 1; }
	$(PYTHON) -m venv .venv
	.venv/bin/python -m pip install --disable-pip-version-check -c .ci/constraints.txt -e '.[dev]'
	@touch $@

demo: env  ## teacher, baseline, KD and Z-score KD on the bundled digits, then their table (offline, two to four minutes)
	.venv/bin/distill train sweep=demo
	.venv/bin/distill table dataset=digits

test: env  ## run the tests, offline (ARGS= reaches pytest, as in ARGS="-k wheel -x")
	.venv/bin/pytest -n 2 --dist loadfile $(ARGS)

bench: env  ## what training costs against the field's own loop (ARGS="experiment=cifar100/NAME rows=step", about ten minutes)
	.venv/bin/python -m scripts.bench $(ARGS)

lint: env  ## check format, lint and types
	.venv/bin/ruff format --check .
	.venv/bin/ruff check .
	.venv/bin/mypy

format: env  ## rewrite the sources in the project's format
	.venv/bin/ruff check --fix --select I .
	.venv/bin/ruff format .

clean:  ## remove caches and build output (runs/ and .venv stay)
	rm -rf build dist .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -not -path './.venv/*' -prune -exec rm -rf {} +

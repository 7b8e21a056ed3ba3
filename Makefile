# `make demo` and `make test` need only Python >= 3.11, make and a package index.
# All paths are relative to this folder, so its own path may contain spaces.

PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
RUN := runs/demo
BIN := .venv/bin/python
PIP := $(BIN) -m pip install --quiet --disable-pip-version-check --constraint constraints.txt

.PHONY: help demo check test test-slow parity test-all mutants docs lint format clean

help:
	@echo "make demo     train nano on sample photographs, fuse held-out ones, write $(RUN)/report.html"
	@echo "make check    formatting, lint, types and the quick tests (2 minutes on two cores)"
	@echo "make test     all tests but the slow ones (9 minutes on two cores)"
	@echo "make test-slow the slow tests"
	@echo "make test-all all tests, with optimised programs"
	@echo "make parity   compare with PyTorch, peft and diffusers (installs them)"
	@echo "make mutants  measure which small defects the tests detect (an hour)"
	@echo "make docs     build the documentation in site/"
	@echo "make lint     formatting, lint and types"
	@echo "make format   format the code with ruff"
	@echo "make clean    remove the environment"

# The stamp is written last, so an interrupted installation starts again.
.venv/installed: setup.cfg constraints.txt pyproject.toml
	@test -n "$(PYTHON)" || { echo "Python 3.11 or newer is needed: set PYTHON=/path/to/python3"; exit 2; }
	rm -f .venv/installed
	$(PYTHON) -m venv .venv
	$(PIP) --editable '.[samples,reports]'
	touch .venv/installed

.venv/installed-test: .venv/installed
	$(PIP) --editable '.[test]'
	touch .venv/installed-test

.venv/installed-dev: .venv/installed-test
	$(PIP) --editable '.[dev]'
	touch .venv/installed-dev

demo: .venv/installed
	$(BIN) -m ditfuse_jax train --config nano_m3 --workdir $(RUN)
	$(BIN) -m ditfuse_jax evaluate --checkpoint $(RUN) --data samples:heldout --count 6

# `loadfile` keeps the tests of a file in one worker: they share fixtures.
CORES := $(shell getconf _NPROCESSORS_ONLN 2>/dev/null || echo 1)
WORKERS := $(if $(filter-out 1,$(CORES)),-n logical --maxprocesses 8 --dist loadfile)

SPECIAL := slow or gpu or tpu or parity

# The type checker runs beside the tests: it uses one core, less with room for its young objects.
check: .venv/installed-dev
	$(BIN) -m ruff format --check .
	$(BIN) -m ruff check .
	@$(MAKE) --no-print-directory --jobs 2 types quick

.PHONY: types quick
types: .venv/installed-dev
	NODE_OPTIONS="--max-semi-space-size=256 $(NODE_OPTIONS)" $(BIN) -m pyright

quick: .venv/installed-test
	$(BIN) -m pytest $(WORKERS) -m "not ($(SPECIAL) or medium or processes)"

test: .venv/installed-test
	$(BIN) -m pytest $(WORKERS) -m "not ($(SPECIAL))"

test-slow: .venv/installed-test
	$(BIN) -m pytest $(WORKERS) -m "slow and not (gpu or tpu or parity)"

# Installs PyTorch, peft and diffusers.
parity: .venv/installed-test
	$(PIP) --editable '.[parity]'
	$(BIN) -m pytest -m parity

# With XLA's optimisations, which the other targets turn off to compile faster.
test-all: .venv/installed-test
	XLA_FLAGS= $(BIN) -m pytest

# A random sample, the same one every time; MUTANTS=0 runs all of them, which takes a day.
MUTANTS := 400
mutants: .venv/installed-test
	$(PIP) --editable '.[mutants]'
	$(BIN) tests/mutation/run.py --count $(MUTANTS)

.venv/installed-docs: .venv/installed
	$(PIP) --editable '.[docs]'
	touch .venv/installed-docs

docs: .venv/installed-docs
	$(BIN) -m docs.build_site

lint: .venv/installed-dev
	$(BIN) -m ruff format --check .
	$(BIN) -m ruff check .
	NODE_OPTIONS="--max-semi-space-size=256 $(NODE_OPTIONS)" $(BIN) -m pyright

format: .venv/installed-dev
	$(BIN) -m ruff check --fix .
	$(BIN) -m ruff format .

clean:
	rm -rf .venv

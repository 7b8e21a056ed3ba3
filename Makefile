# `make demo` and `make test` need Python >= 3.11, make and a package index; nothing else.
# Everything is relative to this folder, so its path may hold spaces.

PYTHON ?= $(shell for p in python3 python3.12 python3.11 python3.13; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
RUN := runs/demo
BIN := .venv/bin/python
PIP := $(BIN) -m pip install --quiet --disable-pip-version-check --constraint constraints.txt

.PHONY: help demo test parity test-all mutants lint format clean

help:
	@echo "make demo     train nano on sample photographs, fuse held-out ones, write $(RUN)/report.html"
	@echo "make test     run the tests"
	@echo "make parity   compare with PyTorch, peft and diffusers (installs them)"
	@echo "make test-all also the slow ones"
	@echo "make mutants  change the code in small ways: do the tests notice? (an hour)"
	@echo "make lint     ruff and pyright"
	@echo "make format   let ruff format the code"
	@echo "make clean    remove the environment"

# The stamp is written last: an interrupted installation starts again.
.venv/installed: setup.cfg constraints.txt pyproject.toml
	@test -n "$(PYTHON)" || { echo "Python 3.11 or newer is needed: set PYTHON=/path/to/python3"; exit 2; }
	rm -f .venv/installed
	$(PYTHON) -m venv .venv
	$(PIP) --editable '.[test]'
	touch .venv/installed

.venv/installed-dev: .venv/installed
	$(PIP) --editable '.[dev]'
	touch .venv/installed-dev

demo: .venv/installed
	$(BIN) -m ditfuse_jax train --config nano_m3 --workdir $(RUN)
	$(BIN) -m ditfuse_jax evaluate --checkpoint $(RUN) --data samples:heldout --count 6

# A file's tests stay together: they share what they set up.
CORES := $(shell getconf _NPROCESSORS_ONLN 2>/dev/null || echo 1)
WORKERS := $(if $(filter-out 1,$(CORES)),-n logical --maxprocesses 8 --dist loadfile)

test: .venv/installed
	$(BIN) -m pytest $(WORKERS) -m "not slow and not gpu and not tpu and not parity"

# Against PyTorch, peft and diffusers, which it installs.
parity: .venv/installed
	$(PIP) --editable '.[parity]'
	$(BIN) -m pytest -m parity

# Here XLA optimises what it compiles, as in use.
test-all: .venv/installed
	XLA_FLAGS= $(BIN) -m pytest

# A random sample, the same one every time; MUTANTS=0 runs all of them, which takes a day.
MUTANTS := 400
mutants: .venv/installed
	$(PIP) --editable '.[mutants]'
	$(BIN) tests/mutation/run.py --count $(MUTANTS)

lint: .venv/installed-dev
	$(BIN) -m ruff check .
	$(BIN) -m ruff format --check .
	$(BIN) -m pyright

format: .venv/installed-dev
	$(BIN) -m ruff check --fix .
	$(BIN) -m ruff format .

clean:
	rm -rf .venv

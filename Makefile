# make demo   install what is needed into .venv and run the demonstration
# make test   install the development tools too and run every check
# make format, make clean
PYTHON ?= python3
BIN := .venv/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --no-input
INSTALL := $(PIP) install --quiet --constraint constraints.txt

.PHONY: demo test lint types layers unit format clean

demo: .venv/.base
	$(BIN)/duologue demo

test: lint types layers unit

lint: .venv/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: .venv/.dev
	$(BIN)/mypy

layers: .venv/.dev
	$(BIN)/lint-imports

unit: .venv/.dev
	$(BIN)/python -m pytest

format: .venv/.dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf .venv .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis

.venv/.python:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Duologue needs Python 3.11 or newer; name one: make PYTHON=python3.12")'
	$(PYTHON) -m venv .venv
	@touch $@

.venv/.base: .venv/.python pyproject.toml constraints.txt
	$(INSTALL) --editable .
	@touch $@

# The parity oracle: moshi 0.2.13 asks for an older torch, so it comes without its dependencies.
.venv/.dev: .venv/.base
	$(INSTALL) --editable '.[dev]'
	$(PIP) install --quiet --no-deps moshi==0.2.13
	@touch $@

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.PHONY: help quickstart test check lint types format clean

help:
	@echo "make quickstart  set up, rerank the demo table that ships with the package, show nDCG@10 before and after"
	@echo "make test        set up, run all tests"
	@echo "make check       set up, run format check, lint, types and all tests"
	@echo "make format      rewrite the code in the project's format"
	@echo "make clean       remove the environment and the output of the quickstart"

quickstart: $(READY)
	$(BIN)/python jobs/quickstart.py

test: $(READY)
	$(BIN)/python -m pytest

check: lint types test

lint: $(READY)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

types: $(READY)
	$(BIN)/mypy

format: $(READY)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=python3.12 ...")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	touch $(READY)

clean:
	rm -rf $(VENV) out/quickstart

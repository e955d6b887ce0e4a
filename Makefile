PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
# Tests of core and storage, whose coverage is measured
MEASURED := tests/core tests/storage tests/preparing tests/labels tests/test_chunked_units.py
# Those of Ray, in fresh processes, since Ray itself takes much memory
CLUSTERS := tests/runtime
# Two processes of tests that go by file, in this order
TWO := -n 2 --dist loadfile --no-loadscope-reorder

.PHONY: help quickstart bench test fuzz check lint types format docs clean

help:
	@echo "make quickstart  set up, rerank the demo table that ships with the package, show nDCG@10 before and after"
	@echo "make bench       set up, measure speed beside other ways to score, on this machine's CPU, in about ten minutes"
	@echo "make test        set up, run all tests, check the coverage of core and storage"
	@echo "make fuzz        set up, try the properties on random input with new seeds, for an hour or so"
	@echo "make check       set up, run format check, lint, types and all tests"
	@echo "make format      rewrite the code in the project's format"
	@echo "make docs        write docs/config.md and its JSON schema from the code"
	@echo "make clean       remove the environment and the output of the quickstart"

quickstart: $(READY)
	$(BIN)/python jobs/quickstart.py

bench: $(VENV)/.ready-bench
	$(BIN)/python benchmarks/run.py $(BENCH)

test: $(READY)
	$(BIN)/coverage run -m pytest $(TWO) $(MEASURED)
	$(BIN)/coverage combine --quiet
	$(BIN)/coverage report --skip-covered
	$(BIN)/python -m pytest $(TWO) $(addprefix --ignore ,$(MEASURED) $(CLUSTERS))
	$(BIN)/python -m pytest $(TWO) $(CLUSTERS)

fuzz: $(READY)
	HYPOTHESIS_PROFILE=fuzz $(BIN)/python -m pytest -m fuzz --timeout 7200 $(FUZZ)

check: lint types test

lint: $(READY)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

types: $(READY)
	$(BIN)/mypy

format: $(READY)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: $(READY)
	$(BIN)/python -m reranker_batch.config.page docs

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=python3.12 ...")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	touch $(READY)

$(VENV)/.ready-bench: $(READY)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[bench]'
	touch $@

clean:
	rm -rf $(VENV) out/quickstart out/quickstart-input.parquet

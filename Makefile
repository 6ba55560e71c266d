# make serve | test | nightly | fuzz | faults | audit | lint | format | bench | lock: each does the set-up itself, once.
#
#   PYTHON=python3.12           the Python (3.11 to 3.13) that makes the virtual environment
#   VENV=.venv                  where it lies
#   TORCH_INDEX_URL=URL         another index for torch alone, such as PyTorch's own for one CUDA version
#   ARGS="-k batcher"           passed on to `ionpath serve`, pytest or the benchmarks

PYTHON ?= python3
VENV ?= .venv
TORCH_VERSION := 2.13.0
TORCH_INDEX_URL ?=
PIP_VERSION := 26.3
UV_VERSION := 0.13.9
PIP_AUDIT_VERSION := 2.10.1
ARGS ?=
# Processes that share the tests, and which third of the longest tests runs: each commit has the next one.
WORKERS ?= 2
THIRD ?= $(shell echo $$(($$(git rev-list --count HEAD 2>/dev/null || echo 0) % 3)))

BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip
PYTHON_MINOR := $(shell $(PYTHON) -c 'import sys; print("%d.%d" % sys.version_info[:2])')
STAMP := $(VENV)/.installed-$(PYTHON_MINOR)
UV := $(VENV)/lock-tool/bin/uv
PIP_AUDIT := $(VENV)/audit-tool/bin/pip-audit
COMPILE_ALL = $(UV) pip compile --quiet --universal --python-version 3.11 --generate-hashes \
	--custom-compile-command "make lock" $(UPGRADE)
COMPILE = $(COMPILE_ALL) --excludes requirements-excluded.txt

PYTEST = $(BIN)/python -m pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder

export PIP_DISABLE_PIP_VERSION_CHECK := 1
# Services, their workers and commands import the same files hundreds of times: they are compiled once.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help setup serve test pytest nightly image-install fuzz faults audit licences lint format bench lock
.DELETE_ON_ERROR:

help:
	@sed -n '1,6s/^# \{0,1\}//p' Makefile

setup: $(STAMP)

# The stamp is older than any of these after an edit or a pull, and then all is brought up to date.
$(STAMP): Makefile pyproject.toml requirements.lock requirements-build.lock
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' || \
		{ echo "Python 3.11, 3.12 or 3.13 is needed and $(PYTHON) is $(PYTHON_MINOR): make PYTHON=python3.12 ..."; exit 1; }
	@test -x $(BIN)/python$(PYTHON_MINOR) || $(PYTHON) -m venv --clear $(VENV)
	$(PIP) install --quiet pip==$(PIP_VERSION)
	$(PIP) install --quiet --no-compile $(if $(TORCH_INDEX_URL),--index-url $(TORCH_INDEX_URL)) torch==$(TORCH_VERSION)
	$(PIP) install --quiet --no-compile --require-hashes -r requirements.lock -r requirements-build.lock
	$(PIP) install --quiet --no-deps --no-build-isolation -e .
	@# pip compiles one file after the other; here all cores do. Files that are no Python of this version are skipped.
	@$(BIN)/python -m compileall -qq -j 0 $(VENV)/lib || true
	@touch $@

serve: setup
	$(BIN)/ionpath serve $(ARGS)

# pytest comes last, so that its closing line is the last one printed.
test: lint
	@$(MAKE) --no-print-directory pytest

# The tests alone: `.ci/run` checks the rest beside them.
pytest: setup
	$(PYTEST) --third $(THIRD) $(ARGS)

# What takes too long for every change: every fault, every made-up call, ten times the mutated files, the image's install.
nightly: lint
	$(BIN)/python -W ignore tests/fuzzing.py --inputs 20000
	$(PYTEST) --nightly $(ARGS)

# The Dockerfile's install lines in a fresh environment; `make nightly` has it, and `.ci/run` where they changed.
image-install: setup
	$(BIN)/python -m pytest --nightly -k images_install tests/unit/test_deployment.py

# Every reader on mutated files, for a nightly run: ARGS="--inputs 20000 --seed 1". `make test` tries 2,000.
fuzz: setup
	$(BIN)/python -W ignore tests/fuzzing.py $(ARGS)

# Licences and known vulnerabilities of what is shipped; fails where these cannot be looked up, unless ARGS=--if-reachable.
audit: setup $(PIP_AUDIT)
	$(BIN)/python tests/audit.py --pip-audit $(PIP_AUDIT) $(ARGS)

licences: setup
	$(BIN)/python tests/audit.py --write

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: setup
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

faults: setup
	$(BIN)/python -m benchmarks.faults $(ARGS)

bench: setup
	$(BIN)/python -m benchmarks $(ARGS)

# requirements-build.lock is of what builds the package: hatchling, and editables for `pip install -e`;
# requirements-torch-cuda.lock of the package index's torch and what it alone needs, for the image with CUDA.
# requirements-torch-cpu.lock is written by hand.
# Keeps what is locked and still fits; `make lock UPGRADE=--upgrade` takes the newest of everything.
lock: $(UV)
	$(COMPILE) --extra train --extra screen --extra test --output-file requirements.lock pyproject.toml requirements-torch.in
	$(COMPILE) --constraints requirements.lock --output-file requirements-runtime.lock pyproject.toml requirements-torch.in
	$(PYTHON) -c "import tomllib; print(*tomllib.load(open('pyproject.toml', 'rb'))['build-system']['requires'], 'editables', sep='\n')" | \
		$(COMPILE) --constraints requirements.lock --output-file requirements-build.lock -
	echo torch==$(TORCH_VERSION) | $(COMPILE_ALL) --constraints requirements-runtime.lock --output-file requirements-torch-cuda.lock \
		$$(sed -n 's/^\([A-Za-z0-9._-]*\)==.*/--no-emit-package \1/p' requirements-runtime.lock) -
	$(MAKE) licences

$(UV): Makefile
	$(PYTHON) -m venv $(VENV)/lock-tool
	$(VENV)/lock-tool/bin/python -m pip install --quiet uv==$(UV_VERSION)
	@touch $@

# A virtual environment of its own, so that nothing of ours depends on what it brings.
$(PIP_AUDIT): Makefile
	$(PYTHON) -m venv $(VENV)/audit-tool
	$(VENV)/audit-tool/bin/python -m pip install --quiet pip-audit==$(PIP_AUDIT_VERSION)
	@touch $@

# Needs only make and Python >= 3.11. Everything is installed into $(VENV); nothing needs root.
#
#   make demo    run the main job: await real tasks by push, then by polling, and compare
#   make test    run all tests on all cores; ARGS="-k redis" passes options to pytest
#
# PYTHON chooses the interpreter for a new environment, VENV the environment, JOBS how many processes run tests (0: all in
# one, for `make test JOBS=0 ARGS="--pdb -k name"`), WITHOUT what a quick run leaves out: servers, or servers,processes, and
# MARKS which tests belong to it.
# Tests wait for servers half of the time, hence two processes for each core; those without servers wait less, and each
# process imports and collects everything, hence three for two.

VENV ?= .venv
PYTHON ?=
ARGS ?=
WITHOUT ?= servers,processes
MARKS ?= not once and not slow
CORES := $(shell getconf _NPROCESSORS_ONLN 2>/dev/null || echo 1)
JOBS ?= $(shell echo $$((2 * $(CORES))))

.DEFAULT_GOAL := help
.PHONY: help demo test test-quick lint format bench bench-full docs dist hooks clean
.DELETE_ON_ERROR:

# Tests start hundreds of interpreters. Without bytecode, each would compile the package anew.
unexport PYTHONDONTWRITEBYTECODE

# Each process has servers of its own, and a file stays in one of them, so that what its tests share is started once.
# The order stays that of tests/conftest.py, which has the longest files first.
PARALLEL = $(if $(filter-out 0,$(JOBS)),--numprocesses=$(JOBS) --dist=loadfile --no-loadscope-reorder)

PY := $(VENV)/bin/python
# Most of what is installed is never imported: compiling what is takes less time.
PIP_INSTALL := $(PY) -m pip install --quiet --no-compile --disable-pip-version-check --retries 10 --timeout 60

help: ## show this list
	@grep -E '^[a-z-]+:.*##' Makefile | sed -E 's/^([a-z-]+):.*## /  make \1\t/' | expand -t 20

demo: $(VENV)/.installed-demo ## run the main job on real tasks in a second process
	@$(PY) -m aioresult demo $(ARGS)

test: $(VENV)/.installed-dev ## run all tests; servers that are missing skip theirs, and say so
	@$(PY) -m pytest $(PARALLEL) $(ARGS)

test-quick: JOBS = $(shell echo $$((3 * $(CORES) / 2)))
test-quick: $(VENV)/.installed-dev ## run the fast tests that start no server and no other process
	@AIORESULT_TEST_WITHOUT=$(WITHOUT) $(PY) -m pytest $(PARALLEL) -r fE -m "$(MARKS)" $(ARGS)

lint: $(VENV)/.installed-dev ## check style, formatting and types
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m mypy

format: $(VENV)/.installed-dev ## bring the code into the one format
	$(PY) -m ruff check --fix .
	$(PY) -m ruff format .

bench: $(VENV)/.installed-dev ## measure the main costs, in a few minutes
	@$(PY) -m benchmarks $(ARGS)

bench-full: $(VENV)/.installed-dev ## measure everything that the benchmark page reports
	@$(PY) -m benchmarks --full $(ARGS)

docs: $(VENV)/.installed-docs ## build the documentation into site/
	$(PY) -m sphinx --fail-on-warning --keep-going --quiet --fresh-env docs site
	@echo "Open site/index.html in a browser."

dist: $(VENV)/.installed-dev ## build the wheel and the source archive into dist/, check them and list what is in them
	rm -rf dist
	$(PY) -m build --outdir dist .
	$(PY) -m twine check --strict dist/*
	@for file in dist/*.whl; do $(PY) -m zipfile --list "$$file"; done
	@for file in dist/*.tar.gz; do $(PY) -m tarfile --list "$$file"; done

hooks: $(VENV)/.installed-dev ## check style before each commit from now on
	$(PY) -m pre_commit install

clean: ## delete the environment and all caches
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis build dist site

# One stamp per set of packages: they are installed again when pyproject.toml has changed, and only then.
$(VENV)/.installed-demo: EXTRAS = sqlalchemy,cli
$(VENV)/.installed-dev: EXTRAS = all,dev
$(VENV)/.installed-docs: EXTRAS = docs
$(VENV)/.installed-lowest: EXTRAS = all,suite
$(VENV)/.installed-lowest: CONSTRAINTS = --constraint tests/lowest.txt
$(VENV)/.installed-lowest: tests/lowest.txt
$(VENV)/.installed-%: pyproject.toml | $(PY)
	@echo "Installing aioresult [$(EXTRAS)] into $(VENV), once; this may take a few minutes ..."
	@$(PIP_INSTALL) $(CONSTRAINTS) --editable ".[$(EXTRAS)]"
	@touch $@

# An environment that an interrupted run has left without pip is made anew.
$(PY):
	@python="$(PYTHON)"; [ -n "$$python" ] || python=$$(sh scripts/find-python) || exit 1; \
	echo "Creating $(VENV) with $$python ..."; \
	"$$python" -m venv --clear "$(VENV)" || { rm -rf "$(VENV)"; exit 1; }

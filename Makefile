# Needs only make and Python >= 3.11. Everything is installed into $(VENV); nothing needs root.
#
#   make demo    run the main job: await real tasks by push, then by polling, and compare
#   make test    run all tests; ARGS="-k redis" passes options to pytest
#
# PYTHON chooses the interpreter for a new environment, VENV the environment.

VENV ?= .venv
PYTHON ?=
ARGS ?=

.DEFAULT_GOAL := help
.PHONY: help demo test lint format bench bench-full docs clean
.DELETE_ON_ERROR:

PY := $(VENV)/bin/python
PIP_INSTALL := $(PY) -m pip install --quiet --disable-pip-version-check --retries 10 --timeout 60

help: ## show this list
	@grep -E '^[a-z-]+:.*##' Makefile | sed -E 's/^([a-z-]+):.*## /  make \1\t/' | expand -t 20

demo: $(VENV)/.installed-demo ## run the main job on real tasks in a second process
	@$(PY) -m aioresult demo $(ARGS)

test: $(VENV)/.installed-dev ## run all tests; servers that are missing skip theirs, and say so
	@$(PY) -m pytest $(ARGS)

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
	$(PY) -m sphinx --fail-on-warning --keep-going --quiet docs site

clean: ## delete the environment and all caches
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis build dist site

# One stamp per set of packages: they are installed again when pyproject.toml has changed, and only then.
$(VENV)/.installed-demo: EXTRAS = sqlalchemy,cli
$(VENV)/.installed-dev: EXTRAS = all,dev
$(VENV)/.installed-docs: EXTRAS = docs
$(VENV)/.installed-%: pyproject.toml | $(PY)
	@echo "Installing aioresult [$(EXTRAS)] into $(VENV), once; this may take a minute or two ..."
	@$(PIP_INSTALL) --editable ".[$(EXTRAS)]"
	@touch $@

# An environment that an interrupted run has left without pip is made anew.
$(PY):
	@python="$(PYTHON)"; [ -n "$$python" ] || python=$$(sh scripts/find-python) || exit 1; \
	echo "Creating $(VENV) with $$python ..."; \
	"$$python" -m venv --clear "$(VENV)" || { rm -rf "$(VENV)"; exit 1; }

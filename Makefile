# Every target works on a fresh clone with nothing but Python 3.11+, make and a package index.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.DEFAULT_GOAL := help
.PHONY: help install dev demo test check lint format types slow browser bench docs lock audit clean

help:  ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 12

$(VENV)/.runtime: requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "Python 3.11 or newer is needed, this is " + sys.version.split()[0])'
	@echo 'Installing dependencies (once, 1-3 minutes)'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

$(VENV)/.dev: $(VENV)/.runtime requirements-dev.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-dev.lock
	touch $@

install: $(VENV)/.runtime  ## make .venv with the pinned dependencies and this package

dev: $(VENV)/.runtime  ## Dagster's UI and daemon; without credentials on the bundled sample store
	@exec $(BIN)/python -m commerce_assets.dev

demo: $(VENV)/.runtime  ## pull everything from the sample store, backfill 30 days, run the checks, show the result
	@$(BIN)/python -m sample_store.demo

test: $(VENV)/.dev  ## the tests (without the slow and the browser ones)
	$(BIN)/python -m pytest -n 2 -m "not slow and not browser"

slow: $(VENV)/.dev  ## the tests that take minutes; another SEED draws other examples
	$(BIN)/python -m pytest -n 2 -m slow --hypothesis-seed=$(or $(SEED),0)

browser: $(VENV)/.dev  ## the tests that drive the UI in headless Chromium
	$(BIN)/python -m pytest -m browser

bench: $(VENV)/.runtime  ## this project and its peers on one server, into bench/RESULTS.md; SIZE=small for minutes only
	$(BIN)/python -m bench --size $(or $(SIZE),full)

docs: $(VENV)/.runtime  ## write the data dictionary and the cookbook's results anew
	$(BIN)/python -m tools.docs

lint: $(VENV)/.dev  ## format, lint rules, import contracts
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/lint-imports

types: $(VENV)/.dev
	$(BIN)/mypy

check: lint types test  ## format, lint, types, tests

format: $(VENV)/.dev  ## rewrite the code as ruff wants it
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

lock: $(VENV)/.dev  ## resolve the dependencies anew (needs uv)
	uv pip compile --universal --generate-hashes --no-strip-extras --python-version 3.11 --no-header --no-annotate --quiet --upgrade pyproject.toml --group install -o requirements.lock
	uv pip compile --universal --generate-hashes --no-strip-extras --python-version 3.11 --no-header --no-annotate --quiet --upgrade pyproject.toml --group install --group dev -c requirements.lock -o requirements-dev.lock

# Strict: a package that the service does not answer for is a failure, and not one without vulnerabilities.
audit:  ## look the pinned versions up among known vulnerabilities (needs uv and the internet)
	uvx pip-audit@2.10.1 --strict --require-hashes --disable-pip -r requirements-dev.lock

clean:  ## remove the environment and the caches; the data stays
	rm -rf $(VENV) bench/.envs bench/.work .mypy_cache .pytest_cache .ruff_cache .hypothesis

# Every target works on a fresh clone with nothing but Python 3.11+, make and a package index.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.DEFAULT_GOAL := help
.PHONY: help install dev demo test check lint format types mutate slow clocks browser pandas2 cluster install-cluster bench docs site lock audit clean

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

install: $(VENV)/.runtime  ## create .venv with the pinned dependencies and this package

$(VENV)-cluster/.runtime: requirements-cluster.lock pyproject.toml
	test -x $(VENV)-cluster/bin/python || $(PYTHON) -m venv $(VENV)-cluster
	$(VENV)-cluster/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-cluster.lock
	$(VENV)-cluster/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	touch $@

install-cluster: $(VENV)-cluster/.runtime  ## create .venv-cluster, which adds PostgreSQL, lakes, Celery and Kubernetes

dev: $(VENV)/.runtime  ## start Dagster's UI and daemon; without credentials on the sample store
	@exec $(BIN)/python -m commerce_assets.dev

demo: $(VENV)/.runtime  ## extract everything from the sample store, backfill 30 days, run the checks, print the result
	@$(BIN)/python -m sample_store.demo

test: $(VENV)/.dev  ## run the quick tests
	$(BIN)/python -m pytest -n 2 --dist worksteal -m "not slow and not browser and not cluster"

# dbt has dependencies that others here exclude.
$(VENV)-dbt/.installed: examples/dbt/requirements.lock
	test -x $(VENV)-dbt/bin/python || $(PYTHON) -m venv $(VENV)-dbt
	$(VENV)-dbt/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r examples/dbt/requirements.lock
	touch $@

# The environment has pandas 3; the other packages of it serve both.
$(VENV)-pandas2/.installed: $(VENV)/.dev
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --upgrade --target $(@D) pandas==2.3.3
	touch $@

pandas2: $(VENV)-pandas2/.installed  ## run the tests of own assets with pandas 2
	PYTHONPATH=$(CURDIR)/$(VENV)-pandas2 $(BIN)/python -m pytest -n 2 commerce_assets_tests/integration/test_own_assets.py

slow: $(VENV)/.dev $(VENV)-dbt/.installed  ## run the tests that take minutes; SEED=n draws other examples
	$(BIN)/python -m pytest -n 2 -m slow --hypothesis-seed=$(or $(SEED),0)

clocks: $(VENV)/.dev  ## run the quick tests at 23:50 UTC, on 29 February and on 31 December, in three time zones
	$(BIN)/python -m tools.clocks

browser: $(VENV)/.dev  ## run the tests that drive the UI in headless Chromium
	$(BIN)/python -m pytest -m browser

cluster: $(VENV)-cluster/.runtime requirements-dev.lock  ## run the tests of several machines (needs PostgreSQL and Redis)
	$(VENV)-cluster/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-dev.lock
	$(VENV)-cluster/bin/python -m pytest -n 2 --dist worksteal -m cluster

bench: $(VENV)/.runtime  ## compare with peers, into bench/RESULTS.md; SIZE=small takes minutes only
	$(BIN)/python -m bench --size $(or $(SIZE),full)
	$(BIN)/python -m bench.copy_cost $(if $(SIZE),100000)

docs: $(VENV)/.dev  ## regenerate the data dictionary, the cookbook and the column lineage
	$(BIN)/python -m tools.docs

# The pages and the files that they link, in the folders of the repository, so that their links hold on the site too.
SITE := README.md CONTRIBUTING.md CHANGELOG.md LICENSE .env.example docs deploy examples bench/RESULTS.md bench/__main__.py \
	commerce_assets/endpoint.py commerce_assets/endpoints.py commerce_assets/analytics

site: $(VENV)/.dev  ## build the documentation as a site, in build/site; a link that leads nowhere fails
	rm -rf build/pages && mkdir -p build/pages
	tar -cf - --exclude=__pycache__ $(SITE) | tar -xf - -C build/pages
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

lint: $(VENV)/.dev  ## check format, lint rules, import contracts and words
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/lint-imports
	$(BIN)/python -m tools.words

types: $(VENV)/.dev
	$(BIN)/mypy

check: lint types test  ## lint, types, tests

mutate: $(VENV)/.dev  ## change the pure modules line by line and list the changes that no test notices
	-$(BIN)/mutmut run --max-children 2
	$(BIN)/mutmut results

format: $(VENV)/.dev  ## format the code and apply ruff's fixes
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

# Without duckdb in the second one, which is installed upon the first and upon the third: they have different versions.
lock: $(VENV)/.dev  ## resolve the dependencies again (needs uv)
	uv pip compile --universal --generate-hashes --no-strip-extras --python-version 3.11 --no-header --no-annotate --quiet --upgrade pyproject.toml --group install -o requirements.lock
	uv pip compile --universal --generate-hashes --no-strip-extras --python-version 3.11 --no-header --no-annotate --quiet --upgrade pyproject.toml --group install --group dev --extra report -c requirements.lock --no-emit-package duckdb -o requirements-dev.lock
	uv pip compile --universal --generate-hashes --no-strip-extras --python-version 3.11 --no-header --no-annotate --quiet --upgrade pyproject.toml --group install --extra cluster -c requirements-dev.lock -o requirements-cluster.lock
	uv pip compile --universal --generate-hashes --no-strip-extras --python-version 3.11 --no-header --no-annotate --quiet --upgrade examples/dbt/requirements.txt -o examples/dbt/requirements.lock

# --strict: a package that is unknown to the service is a failure.
audit:  ## check the pinned versions for known vulnerabilities (needs uv and the internet)
	uvx pip-audit@2.10.1 --strict --require-hashes --disable-pip -r requirements.lock -r requirements-dev.lock

clean:  ## remove the environment and the caches, not the data
	rm -rf $(VENV) $(VENV)-cluster $(VENV)-dbt $(VENV)-pandas2 bench/.envs bench/.work .mypy_cache .import_linter_cache mutants .pytest_cache .ruff_cache .hypothesis

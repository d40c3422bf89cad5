# Everything a newcomer needs is `make demo` and `make test`; `make help` lists the rest.
# Set-up happens in .venv (and .oracle, for comparisons with packtivity 0.17.1) and only when something has changed.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

PYTHON ?=
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
STAMPS := $(VENV)/stamps
ORACLE := .oracle
WORLDS := .worlds
DEMO_OUTPUT ?= demo-output
DEMO_EVENTS ?= 2000
PYTEST_ARGS ?=
SOAK_SECONDS ?= 300
# Each test is run by exactly one of make test, make test-engines and make soak's rest (tests/test_groups.py).
WITHOUT_ENGINES := not soak and not engines
WITH_ENGINES := engines and not soak
# What is downloaded stays in the checkout, too.
export PIP_CACHE_DIR ?= $(CURDIR)/.cache/pip
# Commands run here find those of the virtual environment first, as in an activated one.
export PATH := $(CURDIR)/$(BIN):$(PATH)

.PHONY: help
help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/\1\t\2/' | expand -t 16

.PHONY: demo
demo: $(STAMPS)/demo ## run a real physics task, from collisions to a jet spectrum
	@examples/phenochain/run.sh "$(DEMO_OUTPUT)" "$(DEMO_EVENTS)" > "$(DEMO_OUTPUT).log" || { cat "$(DEMO_OUTPUT).log"; exit 1; }
	@$(BIN)/python tools/show_demo.py "$(DEMO_OUTPUT)"

.PHONY: test
test: test-setup ## run the tests that change nothing outside this folder
	@tools/run-tests.sh -m "$(WITHOUT_ENGINES)" $(PYTEST_ARGS)

.PHONY: test-engines
test-engines: engines ## run the others: with container engines, Redis, RabbitMQ (root on Debian; YES=1 does not ask)
	@$(MAKE) --no-print-directory test-setup
	@tools/run-tests.sh -m "$(WITH_ENGINES)" $(PYTEST_ARGS)

.PHONY: engines
engines: ## install and start the engines, having said what that changes
	@tools/engines.sh start

.PHONY: engines-stop
engines-stop: ## end the engines and take back what they changed; packages stay
	@tools/engines.sh stop

# Environments with Python packages: three at most, made side by side.
.PHONY: test-setup
test-setup:
	@$(MAKE) --no-print-directory --jobs 2 $(STAMPS)/test $(ORACLE)/stamp worlds

.PHONY: worlds
worlds: $(STAMPS)/base ## set up what runs on this package, beside it: the workflow engine and its friends
	@$(BIN)/python tools/worlds.py yadage

.PHONY: oracle
oracle: $(ORACLE)/stamp ## set up packtivity 0.17.1, which the tests compare with

.PHONY: soak
soak: engines ## run all tests with their long matrices, fuzzers for SOAK_SECONDS each
	@$(MAKE) --no-print-directory test-setup
	@PACKTIVITY_SOAK_SECONDS=$(SOAK_SECONDS) JOBS=0 tools/run-tests.sh -m "soak or not soak" $(PYTEST_ARGS)

.PHONY: coverage
coverage: ## run all tests and hold the branch coverage of the core against its threshold
	$(MAKE) test PYTEST_ARGS="--cov --cov-report= $(PYTEST_ARGS)"
	$(MAKE) test-engines PYTEST_ARGS="--cov --cov-append --cov-report= $(PYTEST_ARGS)"
	$(MAKE) check-coverage

.PHONY: check-coverage
check-coverage: $(STAMPS)/test ## hold the coverage that was measured last against its threshold
	@mkdir -p .cache
	$(BIN)/python -m coverage json --quiet -o .cache/coverage.json
	$(BIN)/python tools/check_coverage.py .cache/coverage.json

.PHONY: lint
lint: $(STAMPS)/lint ## check style, types, layers, packaging and workflows
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache
	$(BIN)/validate-pyproject pyproject.toml
	$(BIN)/repo-review .
	$(BIN)/zizmor --offline --quiet .github

.PHONY: format
format: $(STAMPS)/lint ## mend what ruff can mend
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

.PHONY: docs
docs: $(STAMPS)/docs ## build the documentation, warnings are errors
	$(BIN)/python -m sphinx -W --keep-going -q -b html docs docs/_build/html
	@echo "docs/_build/html/index.html"

.PHONY: bench
bench: $(STAMPS)/base $(ORACLE)/stamp worlds ## print every benchmark's ratios
	@for benchmark in benchmarks/bench_*.py; do echo "== $$benchmark"; $(BIN)/python "$$benchmark"; done

.PHONY: clean
clean: ## remove everything that was made here
	rm -rf $(VENV) $(ORACLE) $(WORLDS) .nox .cache .hypothesis .mypy_cache .ruff_cache .pytest_cache .import_linter_cache
	rm -rf .coverage .coverage.* htmlcov dist docs/_build docs/_generated demo-output demo-output.log
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(STAMPS)/base: pyproject.toml tools/find-python.sh
	@python=$$(PATH="$(subst $(CURDIR)/$(BIN):,,$(PATH))" PYTHON="$(PYTHON)" sh tools/find-python.sh); \
	echo "Setting up $(VENV) with $$python"; \
	"$$python" -m venv $(VENV)
	@$(PIP) install --upgrade "pip>=25.1"
	@$(PIP) install --editable .
	@mkdir -p $(STAMPS) && touch $@

$(STAMPS)/%: $(STAMPS)/base
	@echo "Installing what '$*' needs"
	@$(PIP) install --group $*
	@touch $@

$(ORACLE)/stamp: tests/oracle-requirements.txt tools/find-python.sh
	@python=$$(PATH="$(subst $(CURDIR)/$(BIN):,,$(PATH))" PYTHON="$(PYTHON)" sh tools/find-python.sh); \
	echo "Setting up $(ORACLE) with $$python"; \
	"$$python" -m venv $(ORACLE)
	@$(ORACLE)/bin/python -m pip --disable-pip-version-check --quiet install -r tests/oracle-requirements.txt
	@touch $@

# One entry for everything. `make demo` and `make test` set up all that they need.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

PYTHON ?= python3
BIN := .venv/bin
NODE := $(BIN)/python contracts/nodejs.py
DIGITS := examples/digits
WORKERS ?= 4# of the tests with real processes, which mostly wait for each other
MINUTES ?= 10
WORLDS ?= 1# of the deep run, side by side

.PHONY: help demo test check format solidity-test process-test bench deep generate lock clean setup sandbox

help: ## This list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: setup sandbox .cache/wheels/.complete ## Set up, start a devnet, a market and two providers, run a real job, audit it
	@$(BIN)/suanli demo run --wheels .cache/wheels $(DIGITS)/job.yaml

test: check sandbox .cache/wheels/.complete ## Everything: check, Solidity with fuzzing, real chain, market, nodes, client
	@$(MAKE) --no-print-directory -j2 solidity-test process-test

process-test: setup # What starts processes, and what compares Python with Solidity
	$(BIN)/pytest -n $(WORKERS) --durations=10 tests/contract tests/parity tests/e2e

check: setup ## Under two minutes: format, lint, types, import rules, generated files, unit and property tests
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache
	$(BIN)/python contracts/compile.py --check
	$(BIN)/python -m suanli_market.api.schema --check
	$(BIN)/python -m suanli.jobs.schema --check
	$(BIN)/python -m suanli.commands.reference --check
	$(BIN)/pytest -q -n 2 tests/unit tests/property

solidity-test: setup ## Hardhat: the Solidity tests, with fuzzing
	$(NODE) hardhat test

bench: setup sandbox .cache/wheels/.complete ## Measure, and write docs/benchmarks.md; ONLY=gas,job refreshes these
	PYTHONPATH=tests $(BIN)/python -m bench $(if $(ONLY),--only $(ONLY))

deep: setup sandbox ## Kill everything everywhere for MINUTES (10) in WORLDS (1), and write the counts to docs/reliability.md
	PYTHONPATH=tests $(BIN)/python -m deep --minutes $(MINUTES) --worlds $(WORLDS) --out docs/reliability.md

format: setup ## Rewrite the Python files in the one format
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

generate: setup ## Make the committed files anew: ABI and bytecode, OpenAPI, job schema, command reference
	$(BIN)/python contracts/compile.py
	$(BIN)/python -m suanli_market.api.schema
	$(BIN)/python -m suanli.jobs.schema
	$(BIN)/python -m suanli.commands.reference

lock: setup ## Pin the Python packages anew, with hashes and without addresses
	$(BIN)/uv pip compile pyproject.toml --all-extras --universal --generate-hashes --no-emit-index-url \
		--no-header --upgrade --python-version 3.11 --quiet --output-file requirements.lock
	$(BIN)/uv pip compile $(DIGITS)/requirements.in --universal --generate-hashes --no-emit-index-url \
		--no-header --upgrade --python-version 3.11 --quiet --output-file $(DIGITS)/requirements.lock

clean: ## Remove what setting up and running left here (not a running demo: `suanli demo down`)
	rm -rf .venv node_modules .cache artifacts cache coverage build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

setup: .venv/.complete node_modules/.complete

.venv/.complete: requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Suanli needs Python 3.11 or newer; this is " + sys.version.split()[0] + ". Name another one: make PYTHON=python3.12 …")'
	@echo "Installing the Python packages into .venv (about a minute the first time)"
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@$(BIN)/python -m pip install -qq --disable-pip-version-check --require-hashes -r requirements.lock
	@$(BIN)/python -m pip install -qq --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

node_modules/.complete: package-lock.json package.json .venv/.complete
	@echo "Installing Hardhat, the Solidity compiler and Anvil into node_modules"
	@$(NODE) npm ci --ignore-scripts --no-audit --no-fund --loglevel=error
	@touch $@

.cache/wheels/.complete: $(DIGITS)/requirements.lock .venv/.complete
	@echo "Fetching the wheels of the example job"
	@mkdir -p $(@D)
	@$(BIN)/python -m pip download -qq --disable-pip-version-check --only-binary :all: --no-deps --require-hashes \
		-r $< --dest $(@D)
	@touch $@

# What confines the jobs comes as system packages: installed where that is allowed, else the command is said.
sandbox:
	@.ci/install-sandbox

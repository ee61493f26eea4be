# Every recipe is what you could type yourself. `make demo` shows Gatehouse; `make test` proves it.

PYTHON ?= python3
BIN := .venv/bin
NODE := tests/conformance/node
# Older versions of Python clients, each in a folder of its own.
OLD_CLIENTS := .venv/clients/hub-0.23/installed .venv/clients/hub-0.36/installed
# A file's tests share servers and models; the order is the one that tests/conftest.py gives.
SPREAD := -n auto --dist loadfile --no-loadscope-reorder

.PHONY: install install-tests programs demo test fast conform soak soak-engine bench bench-engine fmt lint types check

## Gatehouse in .venv. Running it again costs nothing until its dependencies change.
install: .venv/installed

.venv/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet -c constraints.txt torch==2.13.0
	$(BIN)/pip install --quiet -c constraints.txt -e .
	touch $@

## Start a server with demo users and a gated demo model, and say what to try.
demo: install
	$(BIN)/gatehouse demo

## What the tests need beside Gatehouse: Python packages, Node packages, Debian packages.
install-tests: .venv/installed-tests programs $(NODE)/node_modules/.package-lock.json $(OLD_CLIENTS)

.venv/installed-tests: .venv/installed
	$(BIN)/pip install --quiet -c constraints.txt -e '.[test]'
	touch $@

$(NODE)/node_modules/.package-lock.json: $(NODE)/package.json $(NODE)/package-lock.json
	cd $(NODE) && npm ci --ignore-scripts --no-audit --no-fund
	touch $@

.venv/clients/%/installed: tests/conformance/python/%.txt | .venv/installed
	$(BIN)/pip install --quiet --no-deps --upgrade --target $(@D) -r $<
	touch $@

programs:
	sh tests/install_programs.sh

## Everything: style, types, every test, the stock clients against a running server.
test: install-tests lint types
	$(BIN)/pytest $(SPREAD) --durations 15

## Without the stock clients and the browser.
fast: .venv/installed-tests
	$(BIN)/pytest $(SPREAD) -m 'not conformance and not browser'

## The stock clients alone.
conform: install-tests
	$(BIN)/pytest $(SPREAD) -m 'conformance or browser' --durations 15

## Twenty minutes of callers who leave and hosts that are killed; no part of `make test`.
soak: .venv/installed-tests
	PYTHONPATH=tests $(BIN)/python tests/soak/soak.py

## Ten thousand requests that are taken back, in the engine itself; minutes, no part of `make test`.
soak-engine: .venv/installed-tests
	$(BIN)/python tests/soak/engine_soak.py

## What the hub adds to an engine, measured here and now; no part of `make test`.
bench: .venv/installed-tests
	$(BIN)/python -m benchmarks.inference

## Our engines of text generation beside others, which it installs; hours. `--quick` takes minutes.
bench-engine: .venv/installed-tests
	$(BIN)/python -m benchmarks.engine

fmt: .venv/installed-tests
	$(BIN)/ruff check --fix --quiet
	$(BIN)/ruff format

lint: .venv/installed-tests
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/lint-imports
	$(BIN)/codespell src tests benchmarks docs README.md CHANGELOG.md Makefile
	$(BIN)/djlint --lint --quiet src/gatehouse/web/templates

# Each room of tests may have a conftest; mypy takes one file of a name at a time.
types: .venv/installed-tests
	$(BIN)/mypy --exclude 'tests/[a-z]+/conftest\.py$$'
	for file in tests/*/conftest.py; do \
		MYPYPATH=tests:tests/engines:$$(dirname $$file) $(BIN)/mypy $$file || exit 1; done

## What continuous integration runs.
check: test

# Each target sets up what it needs in .venv; a fresh Debian with Python 3.11 and make is enough.
SHELL := /bin/bash
PY := .venv/bin/python

.PHONY: demo test lint format docs walk bench-first clean help

help:            ## List the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/'

demo: .venv/.server        ## Make a sample graph, serve it, show a first answer (DEMO_ONCE=1 stops after it)
	@$(PY) scripts/demo.py

test: .venv/.dev lint      ## Lint, type check and run every test
	$(PY) -m pytest

lint: .venv/.dev           ## Ruff and mypy
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy

format: .venv/.dev         ## Let ruff put the code in order
	.venv/bin/ruff check --fix-only .
	.venv/bin/ruff format .

docs: .venv/.dev           ## Write the generated reference pages again
	$(PY) scripts/reference.py

walk: .venv/.server        ## Import a real graph and walk all its lists over HTTP (DATA=folder)
	$(PY) benchmarks/walk.py $(DATA)

bench-first: .venv/.server ## Requests a second and CPU a request of one worker, driven by wrk
	$(PY) benchmarks/first_look.py

.venv/.server: pyproject.toml constraints.txt scripts/install
	scripts/install server

.venv/.dev: pyproject.toml constraints.txt scripts/install
	scripts/install server,dev

clean:           ## Remove what the other targets made
	rm -rf .venv .cache .pytest_cache .mypy_cache .ruff_cache .hypothesis build src/*.egg-info

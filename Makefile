# Each target sets up what it needs in .venv; a fresh Debian with Python 3.11 and make is enough.
SHELL := /bin/bash
PY := .venv/bin/python
# The seed of random tests; make prints it in the command line of a run.
SEED ?= $(shell date +%s)
INSTALLED := pyproject.toml requirements.lock scripts/install
LOWEST := pyproject.toml constraints.txt scripts/install scripts/lowest.py

.PHONY: help demo test check test-cluster test-lowest fuzz lint format docs lock bench long clean

help:            ## List the targets
	@sed -nE 's/^([a-z-]+):.*##(.*)/\1\t\2/p' $(MAKEFILE_LIST) | expand -t 12

demo: .venv/.server        ## Make a sample graph, serve it, show a first answer (DEMO_ONCE=1 stops after it)
	@$(PY) scripts/demo.py

test: .venv/.dev lint      ## Lint, type check and run every test (SEED=number repeats a run, THOROUGH=1 tries more)
	$(PY) -m pytest --numprocesses auto --dist worksteal --hypothesis-seed=$(SEED) $(if $(THOROUGH),--hypothesis-profile=thorough)

check: .venv/.dev lint     ## Lint, type check and run the tests that start no process
	$(PY) -m pytest --quiet --numprocesses auto --dist worksteal -m "not process and not long"

test-cluster: .venv/.dev   ## Run the tests that use a node of Cassandra
	$(PY) -m pytest --quiet --numprocesses auto --dist worksteal --hypothesis-seed=$(SEED) -m cluster

test-lowest: .venv-lowest/server/.server .venv-lowest/dev/.dev  ## Run tests with the lowest versions that pyproject.toml promises (TESTS="tests/test_x.py")
	.venv-lowest/server/bin/python scripts/smoke.py
	.venv-lowest/dev/bin/python -m pytest --numprocesses auto --dist worksteal --ignore=tests/test_benchmarks.py $(TESTS)

fuzz: .venv/.fuzz          ## Search for inputs that crash a reader (FUZZ_SECONDS=60, TARGETS="query event")
	$(PY) scripts/fuzz.py --seed $(SEED) --seconds $(or $(FUZZ_SECONDS),60) $(TARGETS)

lint: .venv/.dev           ## Ruff, mypy, and the lint of names and prose
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy
	$(PY) scripts/prose.py

format: .venv/.dev         ## Format the code and fix it with ruff
	.venv/bin/ruff check --fix-only .
	.venv/bin/ruff format .

docs: .venv/.dev           ## Write the generated reference pages
	$(PY) scripts/reference.py

lock: .venv/.dev           ## Write requirements.lock, after a change of pyproject.toml or constraints.txt
	PATH=.venv/bin:$$PATH $(PY) scripts/lock.py

bench: $(if $(filter all cluster http,$(SCENARIO)),.venv/.dev,.venv/.bench)  ## Measure Retinue beside nginx and a hand-made service (SCENARIO="steps import": others; QUICK=1)
	PYTHONPATH=tests:tests/long $(PY) benchmarks/run.py $(or $(SCENARIO),comparison) $(if $(QUICK),--quick) $(ARGS)

long: .venv/.dev           ## Prove what takes long (PROOF="walk changes collect quotas crash hostile damage mutants three_nodes")
	@test -n "$(PROOF)" || { echo 'name a proof: make long PROOF="crash quotas" (docs/benchmarks.md lists them)'; exit 2; }
	for proof in $(PROOF); do PYTHONPATH=tests:benchmarks $(PY) tests/long/$$proof.py $(ARGS) || exit 1; done

.venv/.server: $(INSTALLED)
	scripts/install server

.venv/.bench: $(INSTALLED)
	scripts/install server,bench

.venv/.dev: $(INSTALLED)
	scripts/install server,cassandra,bench,dev

# Without atheris the search is random: it finds less, but more than none.
.venv/.fuzz: .venv/.dev
	scripts/install server,cassandra,bench,dev,fuzz || echo "atheris has no wheel for this Python"
	touch .venv/.fuzz

.venv-lowest/server/.server: $(LOWEST)
	scripts/install server .venv-lowest/server

.venv-lowest/dev/.dev: $(LOWEST)
	scripts/install server,cassandra,dev .venv-lowest/dev

clean:           ## Remove what other targets made
	rm -rf .venv .venv-lowest .cache .pytest_cache .mypy_cache .ruff_cache .hypothesis build src/*.egg-info

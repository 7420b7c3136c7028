# Each target sets up what it needs in .venv; a fresh Debian with Python 3.11 and make is enough.
SHELL := /bin/bash
PY := .venv/bin/python
# What tests draw at random is drawn from this; the seed of a run is in the command line that make prints.
SEED ?= $(shell date +%s)
INSTALLED := pyproject.toml requirements.lock scripts/install
LOWEST := pyproject.toml constraints.txt scripts/install scripts/lowest.py

.PHONY: demo test check fuzz damage test-cluster lint format docs walk changes crash quotas bench bench-steps bench-import bench-billion bench-accounts bench-gate bench-first bench-apply bench-hub bench-size bench-withheld bench-workers bench-admission bench-memory bench-cluster bench-collect bench-http bench-start collect hostile test-lowest lock clean help

help:            ## List the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/'

demo: .venv/.server        ## Make a sample graph, serve it, show a first answer (DEMO_ONCE=1 stops after it)
	@$(PY) scripts/demo.py

test: .venv/.dev lint      ## Lint, type check and run every test (SEED=number repeats a run)
	$(PY) -m pytest --numprocesses auto --dist worksteal --hypothesis-seed=$(SEED)

check: .venv/.dev lint     ## Lint, type check and run the tests that start no process: a minute
	$(PY) -m pytest --quiet --numprocesses auto --dist worksteal -m "not process and not long"

test-lowest: .venv-lowest/server/.server .venv-lowest/dev/.dev  ## Run every test with the lowest versions that pyproject.toml promises (TESTS="tests/test_x.py ...": those)
	.venv-lowest/server/bin/python scripts/smoke.py
	.venv-lowest/dev/bin/python -m pytest --numprocesses auto --dist worksteal --ignore=tests/test_benchmarks.py $(TESTS)

test-cluster: .venv/.dev   ## Three nodes of Cassandra: one, then two, are killed and come back (SECONDS=60; beside it few others)
	$(PY) -m pytest -rP tests/long/three_nodes.py

damage: .venv/.dev         ## Damage a store, its logs and a collection in thousands of ways (DAMAGES=3000 SEED=number)
	PYTHONPATH=benchmarks $(PY) tests/long/damage.py --seed $(SEED) --damages $(or $(DAMAGES),3000)

fuzz: .venv/.fuzz          ## Search for inputs that crash a reader of others' bytes (FUZZ_SECONDS=60 for each, TARGETS="query event")
	$(PY) scripts/fuzz.py --seed $(SEED) --seconds $(or $(FUZZ_SECONDS),60) $(TARGETS)

lint: .venv/.dev           ## Ruff, mypy, and the lint of names and prose
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy
	$(PY) scripts/prose.py

format: .venv/.dev         ## Let ruff put the code in order
	.venv/bin/ruff check --fix-only .
	.venv/bin/ruff format .

docs: .venv/.dev           ## Write the generated reference pages again
	$(PY) scripts/reference.py

lock: .venv/.dev           ## Write requirements.lock again, after a change of pyproject.toml or constraints.txt
	PATH=.venv/bin:$$PATH $(PY) scripts/lock.py

walk: .venv/.server        ## Import a real graph and walk all its lists over HTTP (DATA=folder)
	PYTHONPATH=benchmarks $(PY) tests/long/walk.py $(DATA)

changes: .venv/.server     ## Bring a real graph to a later date by events and by a dump, and compare (DATA=folder)
	PYTHONPATH=benchmarks $(PY) tests/long/changes.py $(DATA)

collect: .venv/.server     ## Collect a real graph over HTTP into mirrors, over days of quota, and compare them (DATA=folder)
	PYTHONPATH=benchmarks $(PY) tests/long/collect.py $(DATA)

quotas: .venv/.server      ## Ask with 64 connections and 8 workers until quotas are spent, also while processes are killed
	PYTHONPATH=benchmarks $(PY) tests/long/quotas.py

bench: .venv/.bench         ## Retinue beside nginx and a hand-made service: speed, CPU, latency, memory (QUICK=1: a small one)
	$(PY) benchmarks/bench.py $(if $(QUICK),--quick)

bench-steps: .venv/.bench   ## Where the microseconds of a request go, step by step
	$(PY) benchmarks/steps.py

bench-import: .venv/.bench  ## How fast follows are imported, beside PostgreSQL's COPY (QUICK=1: a small one)
	$(PY) benchmarks/bulk_load.py $(if $(QUICK),--quick)

bench-billion: .venv/.bench ## A billion follows, or as many as the disk has room for: load, start, pages warm and cold
	$(PY) benchmarks/billion.py

bench-accounts: .venv/.bench ## What a page costs in graphs of 10,000 to 10 million accounts
	$(PY) benchmarks/accounts.py

bench-gate: .venv/.server  ## What tokens, quotas, audit and metrics cost
	$(PY) benchmarks/gate.py

crash: .venv/.server       ## Kill the writing process 300 times while pages are read, and look for anything lost
	PYTHONPATH=benchmarks $(PY) tests/long/crash.py

bench-apply: .venv/.server ## Events a second that become durable while pages are read
	$(PY) benchmarks/apply_rate.py

bench-hub: .venv/.server   ## A page of a list with ten million followers beside one with a hundred
	$(PY) benchmarks/hub.py

hostile: .venv/.dev        ## What clients lose to a server that misbehaves on purpose: ours, killed on the way, and two others
	PYTHONPATH=benchmarks $(PY) tests/long/hostile.py

bench-http: .venv/.dev       ## What a page costs a client, by HTTP library
	$(PY) benchmarks/http_clients.py

bench-collect: .venv/.server ## Pages a second that retinue collect reads: 1,000 lists of 100 pages, on one core
	$(PY) benchmarks/collect_rate.py

bench-size: .venv/.server  ## Bytes a follow on disk, for ten million follows
	$(PY) benchmarks/size.py

bench-withheld: .venv/.server ## Pages across a million rows that are withheld, shown again, unfollowed
	$(PY) benchmarks/withheld.py

bench-first: .venv/.server ## Requests a second and CPU a request of one worker, driven by wrk
	$(PY) benchmarks/first_look.py

bench-workers: .venv/.server ## Requests a second with 1 to 4 workers, and beside 10,000 connections that wait
	$(PY) benchmarks/workers.py

bench-memory: .venv/.server ## Memory of a server over a million requests, refused and broken ones among them (REQUESTS=number)
	$(PY) benchmarks/memory.py --requests $(or $(REQUESTS),1000000)

bench-admission: .venv/.server ## New connections at 1, 2 and 4 times the capacity, alone and beside 10,000 idle ones
	$(PY) benchmarks/admission.py

bench-cluster: .venv/.dev  ## A store on one node of Cassandra: import, events, pages, bytes a follow (DATA=folder: walk that too)
	PYTHONPATH=tests $(PY) benchmarks/cluster.py $(if $(QUICK),--quick) $(if $(DATA),--walk $(abspath $(DATA)))

bench-start: .venv/.server ## How long --help and a server's start take, beside the import of the libraries
	$(PY) benchmarks/cold_start.py

.venv/.server: $(INSTALLED)
	scripts/install server

.venv/.bench: $(INSTALLED)
	scripts/install server,bench

.venv/.dev: $(INSTALLED)
	scripts/install server,cassandra,bench,dev

# The random search that is left without atheris finds less, and is better than none.
.venv/.fuzz: .venv/.dev
	scripts/install server,cassandra,bench,dev,fuzz || echo "atheris has no wheel for this Python"
	touch .venv/.fuzz

.venv-lowest/server/.server: $(LOWEST)
	scripts/install server .venv-lowest/server

.venv-lowest/dev/.dev: $(LOWEST)
	scripts/install server,cassandra,dev .venv-lowest/dev

clean:           ## Remove what the other targets made
	rm -rf .venv .venv-lowest .cache .pytest_cache .mypy_cache .ruff_cache .hypothesis build src/*.egg-info

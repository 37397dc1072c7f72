.DEFAULT_GOAL := help
PY := .venv/bin/python
# Tests and benches start processes beside threads of gRPC: its handlers around fork would run in the child.
export GRPC_ENABLE_FORK_SUPPORT := 0
.PHONY: help setup setup-test run test check fmt gen core bench features chaos simulation outages conformance release \
        check-format check-lint check-types check-layers check-contracts check-gen check-core test-core test-python

help: ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1\t/' | expand -t 18

setup: ## install what running needs (idempotent)
	@scripts/setup.sh run

setup-test:
	@scripts/setup.sh test

run: setup ## the whole platform on this machine, one routed call and its ladder, then stay up (ONCE=1: exit after the call)
	@$(PY) -m mesh.local

test: setup-test check test-core test-python ## all gates and all tests: what CI runs

check: setup-test check-format check-lint check-types check-layers check-contracts check-gen check-core ## the quick gates

fmt: setup ## format everything
	@.venv/bin/ruff format -q . && .venv/bin/ruff check -q --fix . && .venv/bin/buf format -w proto && cargo fmt --manifest-path core/Cargo.toml

gen: setup ## generate gen/ from proto/
	@scripts/gen.sh

core: ## build the Rust core into .venv
	@rm -f .venv/.core-stamp && scripts/setup.sh run

check-format:
	@.venv/bin/ruff format -q --check . || { echo "check-format: run 'make fmt'"; exit 1; }
	@.venv/bin/buf format --diff --exit-code proto > /dev/null || { echo "check-format: run 'make fmt'"; exit 1; }

check-lint:
	@.venv/bin/ruff check -q .

check-types:
	@.venv/bin/mypy mesh services demo tests bench scripts

check-layers:
	@.venv/bin/lint-imports

check-contracts:
	@scripts/contracts.sh

check-gen:
	@scripts/drift.sh

check-core:
	@cargo fmt --check --manifest-path core/Cargo.toml
	@cargo clippy -q --all-targets --features python --manifest-path core/Cargo.toml -- -D warnings

test-core:
	@cargo test -q --manifest-path core/Cargo.toml

# Real processes on a busy machine: tests that failed are run once more by themselves and shown again; what fails twice fails
# the build. A run that crashed, was interrupted or could not collect is not repeated, and nothing of an earlier run counts.
test-python:
	@$(PY) -m pytest --cache-clear; code=$$?; [ $$code -eq 1 ] || exit $$code; \
	  echo "test-python: once more, what failed"; $(PY) -m pytest --last-failed --last-failed-no-failures=none

bench: ## benchmarks beside their peers; NAME=... for one
	@scripts/setup.sh bench >&2
	@$(PY) -m bench $(NAME)

features: ## feature ids proven by the last test run, and those not yet
	@$(PY) -m scripts.features

chaos: setup-test ## the platform under load while its processes die, hang and are cut off (CHAOS_MINUTES, _SEED, _RATE, _PLANS)
	@$(PY) -m pytest tests/chaos/test_long.py --chaos-long -s

simulation: setup-test ## the pure machines under SCHEDULES seeded schedules (10000), by JOBS processes (2); SEED=n shows one step by step
	@$(PY) -m tests.simulation $(if $(SEED),--seed $(SEED),--schedules $(or $(SCHEDULES),10000) --jobs $(or $(JOBS),2))

outages: setup-test ## the long forms of the failure tests of all parts
	@$(PY) -m pytest tests/integration --chaos-long -k "kill or pause or dies or death or outage or drain or frozen or away or lost"

conformance: setup-test ## suites written by others
	@$(PY) -m tests.conformance

release: setup ## freeze the contracts: VERSION=x.y.z writes proto/release.binpb
	@scripts/release.sh $(VERSION)

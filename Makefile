# Two commands matter: `make demo` shows the whole thing, `make test` proves it.
# Each sets everything up first; nothing but Python >= 3.11 and git has to be there.

PYTHON ?= python3
BIN := .venv/bin
UV := .tools/uv/bin/uv
STAGE ?= dev

export UV_PYTHON_DOWNLOADS := never

.DEFAULT_GOAL := help
.PHONY: help setup demo test check format lint types unit docs transcripts synth deploy bench chaos clean

help: ## this list
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 12

setup: node_modules/.ready ## uv, the locked environment and the CDK CLI

demo: setup ## the whole of Codeferry on this machine, in under a minute
	@$(BIN)/ferry demo

test: setup ## everything CI runs
	$(MAKE) check
	$(BIN)/pytest -n 3 -m "not fast" --durations 10 tests # they wait a fifth of their time

check: setup ## format, lint, types, imports, unit tests: the fast part
	$(MAKE) -j2 --output-sync=target lint types unit

lint:
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/lint-imports
	$(BIN)/python scripts/docs.py --check

types:
	$(BIN)/mypy

unit:
	$(BIN)/pytest -n 2 -m fast --durations 10 tests/unit

format: setup ## format and fix what can be fixed
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

docs: setup ## regenerate the generated pages of docs/
	$(BIN)/python scripts/docs.py

transcripts: setup ## what README and docs show of ferry, recorded anew
	$(BIN)/python scripts/transcripts.py

bench: setup ## the figures of docs/benchmarks.md, as ratios in one run
	$(BIN)/python benchmarks/packing.py
	$(BIN)/python benchmarks/control_plane.py
	$(BIN)/python benchmarks/transfers.py
	$(BIN)/python benchmarks/drain.py

chaos: setup ## kills, full disks and hostile strings on the instance, the long version
	CODEFERRY_LONG=1 $(BIN)/pytest --timeout 900 -n 2 tests/chaos tests/e2e/test_large.py tests/e2e/test_fleet.py \
		tests/unit/cli/packing/test_ignore.py \
		tests/unit/agent/drain/test_memory.py

synth: setup ## the CloudFormation templates, in cdk.out
	$(BIN)/python scripts/cdk.py synth --quiet -c stage=$(STAGE)

deploy: setup ## to the AWS account of your credentials: make deploy STAGE=dev
	$(BIN)/python scripts/cdk.py deploy --all -c stage=$(STAGE)

clean: ## remove everything make has made
	rm -rf .venv .tools node_modules cdk.out build .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache

$(UV):
	$(PYTHON) -m venv .tools/uv
	$(PYTHON) scripts/locked.py uv | .tools/uv/bin/pip install --quiet --disable-pip-version-check --require-hashes --requirement /dev/stdin

.venv/.ready: uv.lock pyproject.toml $(wildcard */pyproject.toml) | $(UV)
	$(UV) sync --quiet --locked --python $(PYTHON)
	@touch $@

node_modules/.ready: package-lock.json .venv/.ready
	$(BIN)/python scripts/npm.py ci --silent
	@touch $@

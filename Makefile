# Each target sets up what it needs. `make` alone lists them.
#   PYTHON=/usr/bin/python3.12 make install     another interpreter than the one found
#   make demo ARGS="--until pretrain --set pretrain.steps=200"

SHELL := /bin/bash
BIN := .venv/bin
READY := .venv/ready
ARGS ?=
PYTHON ?=

export PATH := $(CURDIR)/$(BIN):$(PATH)
export DO_NOT_TRACK := 1
export DVC_NO_ANALYTICS := 1
export GX_ANALYTICS_ENABLED := False
export MLFLOW_DISABLE_TELEMETRY := true
export PREFECT_SERVER_ANALYTICS_ENABLED := false

# Two test files at a time. Status 5 is that of no test, where ARGS names others.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder --durations=10 $(ARGS)

.PHONY: help install demo ui test drills lint deploy clean

help:  ## this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-9s %s\n", $$1, $$2 }' Makefile

install: $(READY)  ## the virtual environment with everything in it, at the versions of constraints.txt

demo: $(READY)  ## the whole pipeline on the embedded sample; again, it finds nothing to do
	@$(BIN)/python -m flows.demo $(ARGS)

ui: $(READY)  ## the pages: Prefect, MLflow, the report and the Data Docs; Ctrl-C closes them
	@$(BIN)/python -m flows.ui

test: $(READY)  ## the tests but for the drills
	@$(PYTEST) -m "not slow" || [ $$? -eq 5 ]

drills: $(READY)  ## what is killed, stopped, started elsewhere or compiled: ranks, nodes, workers and servers
	@$(PYTEST) -m slow || [ $$? -eq 5 ]

lint: $(READY)  ## ruff, pyright, and which part may import which
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/pyright
	@$(BIN)/lint-imports

deploy: $(READY)  ## the flows of infra/prefect.yaml onto the Prefect server that `make ui` or PREFECT_API_URL names
	@$(BIN)/python -m flows.deploy

# Not the environment, nor what git tracks.
clean:  ## remove all of data/datasets, models, metrics, reports, runs, the registry and DVC's cache, yours in them too
	rm -rf data/datasets models metrics reports runs .blip .prefect mlruns mlflow.db* .dvc/cache .dvc/tmp
	rm -rf dvc_plots .pytest_cache .ruff_cache .import_linter_cache

$(READY): pyproject.toml constraints.txt
	@python=; for candidate in $(PYTHON) python3.11 python3.12 python3; do \
	  if $$candidate -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 13))' 2>/dev/null; \
	  then python=$$candidate; break; fi; done; \
	if [ -z "$$python" ]; then \
	  echo "BLIP needs Python 3.11 or 3.12, and found $$(python3 --version 2>&1 || echo none)." >&2; \
	  echo "Install python3.11 with its venv module, or name one: make install PYTHON=/path/to/python3.11" >&2; \
	  exit 1; fi; \
	echo "setting up .venv with $$($$python --version); some minutes the first time"; \
	$$python -m venv .venv
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt uv
	@UV_FIND_LINKS="$${PIP_FIND_LINKS// /,}" $(BIN)/uv pip install --quiet --compile-bytecode --python $(BIN)/python -c constraints.txt -e '.[dev]'
	@touch $(READY)

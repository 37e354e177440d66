# `make demo` and `make test` are all a newcomer needs; `make help` lists the rest.
SHELL := /bin/sh
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
SAMPLES ?= pydicom
CODE := contract scp/store_scp chalice_app/app.py chalice_app/chalicelib local tests

.DEFAULT_GOAL := help
.PHONY: help demo up send test lint format types imports coverage lock clean dcmtk

help: ## this list
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "make %-9s %s\n", $$1, $$2}'

demo: $(VENV)/.local ## send real DICOM files through the whole pipeline on this machine (SAMPLES=pydicom|ct500)
	@$(BIN)/python -m local demo --samples $(SAMPLES)

up: $(VENV)/.local ## keep the local cloud running until Ctrl-C
	@$(BIN)/python -m local up

send: $(VENV)/.local ## send FILES=... (a file or folder) to the running local cloud
	@$(BIN)/python -m local send $(FILES)

test: $(VENV)/.dev dcmtk ## every test, with branch coverage
	@$(BIN)/python -m pytest --cov --cov-report= $(ARGS)
	@$(BIN)/coverage report --fail-under=90

lint: $(VENV)/.dev ## ruff: lint and format
	@$(BIN)/ruff check $(CODE)
	@$(BIN)/ruff format --check $(CODE)

format: $(VENV)/.dev ## let ruff rewrite what it can
	@$(BIN)/ruff check --fix $(CODE)
	@$(BIN)/ruff format $(CODE)

types: $(VENV)/.dev ## mypy --strict
	@$(BIN)/mypy

imports: $(VENV)/.dev ## which room may import which
	@$(BIN)/lint-imports --no-cache

lock: $(VENV)/.dev ## resolve and lock every dependency again (ARGS=--upgrade for newer ones)
	@UV=$(BIN)/uv requirements/lock.sh $(ARGS)

clean: ## remove the environment and every cache
	@rm -rf $(VENV) .mypy_cache .pytest_cache .ruff_cache .hypothesis .coverage

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || \
	  { echo "This needs Python 3.11 or newer; name one with make PYTHON=python3.12 ..."; exit 1; }
	@$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); \
	  echo "Python's venv module is missing; on Debian and Ubuntu: apt-get install python3-venv"; exit 1; }

$(VENV)/.local: requirements/local.txt pyproject.toml | $(BIN)/python
	@echo "Installing what the local cloud needs into $(VENV) (once) ..."
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/local.txt
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

$(VENV)/.dev: requirements/dev.txt $(VENV)/.local
	@echo "Installing the development tools into $(VENV) (once) ..."
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/dev.txt
	@touch $@

# The interoperability tests drive DCMTK's own storescu and echoscu.
dcmtk:
	@command -v storescu >/dev/null 2>&1 || tests/install-dcmtk.sh

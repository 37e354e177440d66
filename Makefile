# `make demo` and `make test` are all a newcomer needs; `make help` lists the rest.
SHELL := /bin/sh
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
SAMPLES ?= pydicom
CODE := contract scp/store_scp chalice_app/app.py chalice_app/chalicelib infra local bench tests requirements
FUZZ_SECONDS ?= 60
SECONDS ?= 150
IMAGE ?= store-scp
# Names of files may have spaces: recipes read them as the shell's variables.
export FILES SAMPLES
# Those that have HealthImaging: https://docs.aws.amazon.com/general/latest/gr/healthimaging.html
REGIONS := us-east-1 us-west-2 ap-southeast-2 eu-west-1 eu-west-2

.DEFAULT_GOAL := help
.PHONY: help demo up send deploy check test test-all unit validate fuzz chaos mutants image image-test bench-receiver bench-pipeline lint format types imports lock clean peers

help: ## this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "make %-14s %s\n", $$1, $$2}'

demo: $(VENV)/.local ## send real DICOM files through the whole pipeline on this machine (SAMPLES=pydicom|ct500)
	@$(BIN)/python -m local demo --samples "$$SAMPLES"

up: $(VENV)/.local ## keep the local cloud running until Ctrl-C
	@$(BIN)/python -m local up

send: $(VENV)/.local ## send FILES=... (a file or folder) to the running local cloud
	@if [ -e "$$FILES" ]; then set -- "$$FILES"; else eval "set -- $$FILES"; fi; $(BIN)/python -m local send "$$@"

deploy: $(VENV)/.local ## to AWS: make deploy ARGS="plan --config prod.toml", then up (docs/deployment.md)
	@$(BIN)/python -m infra.deploy $(ARGS)

check: $(VENV)/.dev ## lint, types, import rules and unit tests, in less than a minute
	@$(MAKE) --no-print-directory --keep-going -j2 unit types lint imports

test: $(VENV)/.dev $(VENV)/.ministack peers ## everything that a change can break, in minutes; or some (ARGS="tests/unit -k batches")
	@$(BIN)/python -m $(if $(ARGS),pytest $(ARGS),tests.suite $(SUITE))

test-all: ## what CI runs: every test with coverage, the demos, chaos, fuzzing, templates, image; each step's time
	@tests/all.sh

unit: $(VENV)/.dev
	@$(BIN)/python -m pytest --quiet --numprocesses=auto --dist=loadfile tests/unit

validate: $(VENV)/.dev $(VENV)/.checkov ## the templates: lint, posture, rights, what they promise; also the packaged Lambdas
	@$(BIN)/cfn-lint --regions $(REGIONS) --template infra/cloudformation/*.yaml
	@cd chalice_app && AWS_DEFAULT_REGION=us-east-1 ../$(BIN)/chalice package ../build/chalice-package >/dev/null
	@$(BIN)/cfn-lint --regions $(REGIONS) --template build/chalice-package/sam.json
	@$(VENV)/checkov/bin/checkov --directory infra/cloudformation --framework cloudformation --compact --quiet --skip-download
	@$(BIN)/python -m pytest tests/infra $(ARGS)

fuzz: $(VENV)/.fuzz ## coverage-guided fuzzing of everything that parses what a peer sends (FUZZ_SECONDS=60)
	@$(BIN)/python -m tests.fuzz.make_corpus build/fuzz/corpus
	@$(BIN)/python -m tests.fuzz.fuzz_receiver -max_total_time=$(FUZZ_SECONDS) -artifact_prefix=build/fuzz/ build/fuzz/corpus

chaos: $(VENV)/.dev peers ## everything fails for SECONDS=150 while SCUs send; then every promise is checked (SEED=)
	@$(BIN)/python -m tests.chaos --seconds $(SECONDS) $(if $(SEED),--seed $(SEED))

mutants: $(VENV)/.dev $(VENV)/.ministack peers ## plant errors in the product and see which tests find them (SEED=1 COUNT=60)
	@$(BIN)/python -m tests.mutants.contexts
	@$(BIN)/python -m tests.mutants --seed $(or $(SEED),1) --count $(or $(COUNT),60) $(ARGS)

image: ## build the container image with docker, podman or finch (IMAGE=store-scp)
	@$$(for each in docker podman finch; do $$each info >/dev/null 2>&1 && echo $$each && exit; done; \
	  echo "This needs docker (its daemon running), podman or finch." >&2; echo false) \
	  build --file scp/Dockerfile --tag $(IMAGE) \
	  --build-arg REVISION=$$(git rev-parse HEAD 2>/dev/null || echo unknown) $(ARGS) .

image-test: $(VENV)/.dev peers ## build the image without a daemon, start it and send to it
	@tests/install-containers.sh
	@$(BIN)/python -m pytest -m image tests/infra/test_image.py $(ARGS)

bench-receiver: $(VENV)/.dev peers ## this receiver beside its peers; the chart goes to build/ (ARGS=--quick, --flood, "--vs REV")
	@mkdir -p build && $(BIN)/python -m bench.receiver --chart build/receiver-benchmark.png $(ARGS)

bench-pipeline: $(VENV)/.dev ## the pipeline under HealthImaging's limits, simulated; writes docs/costs.md (ARGS=--quick: seconds)
	@mkdir -p build && $(BIN)/python -m bench.pipeline --chart build/pipeline-benchmark.png --costs docs/costs.md $(ARGS)

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
	@rm -rf $(VENV) .mypy_cache .pytest_cache .ruff_cache .hypothesis .coverage build/tests build/contexts* build/mutants*

define install # a virtual environment, a lock file, its name, options
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || \
	  { echo "This needs Python 3.11 or newer; name one with make PYTHON=python3.12 ..."; exit 1; }
	@$(PYTHON) requirements/install.py $(1) requirements/$(2) --label "$(3)" $(4)
	@touch $@
endef

$(VENV)/.local: requirements/local.txt pyproject.toml
	$(call install,$(VENV),local.txt,the local cloud,--editable)

$(VENV)/.dev: requirements/dev.txt $(VENV)/.local
	$(call install,$(VENV),dev.txt,the development tools)

$(VENV)/.fuzz: requirements/fuzz.txt $(VENV)/.dev
	$(call install,$(VENV),fuzz.txt,the fuzzer)

# An S3 engine for the tests that pins a botocore of its own.
$(VENV)/.ministack: requirements/ministack.txt $(VENV)/.dev
	$(call install,$(VENV)/ministack,ministack.txt,MiniStack)

# checkov pins its own boto3.
$(VENV)/.checkov: requirements/checkov.txt $(VENV)/.dev
	$(call install,$(VENV)/checkov,checkov.txt,checkov)

# The interoperability tests and the benchmarks drive DCMTK's and Orthanc's own programs.
peers:
	@{ command -v storescu && command -v Orthanc && command -v openssl; } >/dev/null 2>&1 || tests/install-peers.sh

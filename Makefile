# Everything a person needs; the README explains each target.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
export KINOGRAPH_HOME ?= $(CURDIR)/.kinograph
export PYTHONWARNINGS ?= ignore

.PHONY: run test test-kernels test-slow bench lint ui mlflow-ui doctor clean lock
.NOTPARALLEL:  # two targets never install at once

run: $(VENV)/.installed          ## the whole line: sample videos -> promoted model
	$(BIN)/kinograph run

doctor: $(VENV)/.installed       ## does this machine compute, decode, store and track rightly?
	$(BIN)/kinograph doctor

ui: $(VENV)/.installed           ## Dagster UI on http://127.0.0.1:3000
	$(BIN)/kinograph ui

mlflow-ui: $(VENV)/.installed    ## MLflow UI on http://127.0.0.1:5000
	$(BIN)/kinograph mlflow-ui

test: $(VENV)/.installed-dev     ## the quick suite
	$(BIN)/pytest

# The networks and what trains them, with the kernels of other processors: AVX2's, and none of torch's vector kernels.
KERNELS := $(BIN)/pytest tests/models tests/ops/tasks/recognition/test_images.py

test-kernels: $(VENV)/.installed-dev  ## the networks once more, as other processors compute them
	ONEDNN_MAX_CPU_ISA=AVX2 ATEN_CPU_CAPABILITY=avx2 $(KERNELS)
	ATEN_CPU_CAPABILITY=default $(KERNELS)

test-slow: $(VENV)/.installed-dev  ## the heavy checks: faults injected, a cluster, the line on S3
	$(BIN)/pytest -m slow --timeout 1200

bench: $(VENV)/.installed-dev    ## ratios against the peers
	$(BIN)/pytest -m bench -s tests/bench

lint: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

clean:                           ## forget all results; the environment stays
	rm -rf "$(KINOGRAPH_HOME)"

lock:                            ## the lock files anew; UPGRADE=--upgrade takes the newest of everything
	$(PYTHON) .ci/requirements/lock.py $(UPGRADE)

# One script makes the environment from the lock files: with uv where it is on the PATH, with pip otherwise.
INSTALL := .ci/requirements/install.py .ci/requirements/run.txt pyproject.toml

$(VENV)/.installed: $(INSTALL)
	@$(PYTHON) $< "$(VENV)" run

$(VENV)/.installed-dev: $(INSTALL) .ci/requirements/dev.txt
	@$(PYTHON) $< "$(VENV)" run dev

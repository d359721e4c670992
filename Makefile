# Everything a person needs; the README explains each target.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
export KINOGRAPH_HOME ?= $(CURDIR)/.kinograph
export PYTHONWARNINGS ?= ignore

.PHONY: run test test-slow bench lint ui mlflow-ui clean

run: $(VENV)/.installed          ## the whole line: sample videos -> promoted model
	$(BIN)/kinograph run

ui: $(VENV)/.installed           ## Dagster UI on http://127.0.0.1:3000
	$(BIN)/kinograph ui

mlflow-ui: $(VENV)/.installed    ## MLflow UI on http://127.0.0.1:5000
	$(BIN)/kinograph mlflow-ui

test: $(VENV)/.installed-dev     ## the quick suite
	$(BIN)/pytest

test-slow: $(VENV)/.installed-dev  ## the heavy checks: faults injected, a cluster, the line on S3
	$(BIN)/pytest -m slow --timeout 1200

bench: $(VENV)/.installed-dev    ## ratios against the peers
	$(BIN)/pytest -m bench -s tests/bench

lint: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/mypy

clean:                           ## forget all results; the environment stays
	rm -rf "$(KINOGRAPH_HOME)"

# `torch` comes first: a plain CPU build satisfies the rest of the resolve.
$(VENV)/.installed: pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check --upgrade pip  # an old resolver takes minutes more
	$(BIN)/pip install --quiet --disable-pip-version-check "torch>=2.13,<2.14"
	$(BIN)/pip install --quiet --disable-pip-version-check -e .
	touch $@

$(VENV)/.installed-dev: pyproject.toml $(VENV)/.installed
	$(BIN)/pip install --quiet --disable-pip-version-check -e ".[dev]"
	touch $@

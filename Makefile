# Everything a fresh machine needs: Python 3.11 or newer, and make.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
READY := $(VENV)/.installed

# Test processes; each computes with one thread, so that they do not wait for each other.
WORKERS ?= 2
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(WORKERS)

export HF_HUB_DISABLE_TELEMETRY := 1

.PHONY: help install demo test check messages docs format wheel bench browser clean

help:
	@echo "make demo    train, convert, calibrate and evaluate on the digits (two minutes)"
	@echo "make test    run every test"
	@echo "make check   format, lint, types and tests"
	@echo "make docs    the documentation as a site: site/README.html"
	@echo "make messages  docs/messages.md, from the tests that raise them"
	@echo "make bench SNN=snn.safetensors   engines beside the ANN and other libraries"
	@echo "make browser SNN=snn.safetensors   the exported network in a page, in headless Chromium"
	@echo "make wheel   build the wheel and install it into a scratch environment"

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[dev]"
	@touch $@

install: $(READY)

demo: $(READY)
	$(BIN)/seenn demo

test: $(READY)
	$(PYTEST)

check: $(READY)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(PYTEST)

messages: $(READY)
	$(BIN)/python benchmarks/messages.py

docs: $(READY)
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[docs]"
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet

format: $(READY)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

wheel: $(READY)
	$(BIN)/python -m build --wheel --outdir dist .

# Other libraries live in an environment of their own: they are measured, never used.
SNN ?= snn.safetensors
PEERS := .venv-bench

browser: $(READY)
	$(BIN)/python benchmarks/browser.py $(SNN)

bench:
	test -d $(PEERS) || $(PYTHON) -m venv $(PEERS)
	$(PEERS)/bin/pip install --quiet --disable-pip-version-check -c constraints.txt -e . -r benchmarks/requirements.txt
	$(PEERS)/bin/python benchmarks/engines.py $(SNN)

clean:
	rm -rf $(PEERS) $(VENV) dist build *.egg-info

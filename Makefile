# Everything a fresh machine needs: Python 3.11 or newer, and make.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
READY := $(VENV)/.installed

# Test processes; each computes with one thread, so that they do not wait for each other.
WORKERS ?= 2
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(WORKERS) --dist worksteal

export HF_HUB_DISABLE_TELEMETRY := 1

# Hundreds of processes import torch: its bytecode is kept beside the environment, also where Python is told to keep none.
export PYTHONDONTWRITEBYTECODE :=
export PYTHONPYCACHEPREFIX := $(abspath $(VENV))/bytecode

.PHONY: help install demo test check messages docs format wheel runtime oldest mutants sbom bench browser clean

help:
	@echo "make demo    train, convert, calibrate and evaluate on the digits (two minutes)"
	@echo "make test    run every test"
	@echo "make check   format, lint, types and tests"
	@echo "make docs    the documentation as a site: site/README.html"
	@echo "make messages  docs/messages.md, from the tests that raise them"
	@echo "make bench SNN=snn.safetensors   engines beside the ANN and other libraries"
	@echo "make browser SNN=snn.safetensors   the exported network in a page, in headless Chromium"
	@echo "make wheel   build the wheel, install it into a scratch environment, and use it there"
	@echo "make runtime likewise, with what answering alone needs: constraints-runtime.txt"
	@echo "make oldest  every test with the oldest versions that pyproject.toml allows"
	@echo "make mutants changes to the code that guards the claims, which tests must see"
	@echo "make sbom    what is installed, as CycloneDX: dist/sbom.json"

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check --no-compile -c constraints.txt -e ".[dev]"
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

# Environments of their own, removed before and kept after: what is installed is what is tested.
SCRATCH := .venv-scratch

wheel: $(READY)
	$(BIN)/python -m build --wheel --outdir dist .
	rm -rf $(SCRATCH)
	$(PYTHON) -m venv $(SCRATCH)
	$(SCRATCH)/bin/pip install --quiet --disable-pip-version-check -c constraints.txt dist/*.whl
	cd $(SCRATCH) && bin/seenn doctor && bin/seenn train-direct --epochs 1 && bin/seenn evaluate

runtime:
	rm -rf $(SCRATCH)
	$(PYTHON) -m venv $(SCRATCH)
	$(SCRATCH)/bin/pip install --quiet --disable-pip-version-check -r constraints-runtime.txt
	$(SCRATCH)/bin/pip install --quiet --disable-pip-version-check --no-deps .
	$(SCRATCH)/bin/python tests/runtime_alone.py

oldest:
	rm -rf $(SCRATCH)
	$(PYTHON) -m venv $(SCRATCH)
	$(SCRATCH)/bin/pip install --quiet --disable-pip-version-check uv
	VIRTUAL_ENV=$(SCRATCH) $(SCRATCH)/bin/uv pip install --quiet --resolution lowest-direct -e ".[dev]"
	# Old versions use what their own dependencies, which are new, call deprecated.
	OMP_NUM_THREADS=1 $(SCRATCH)/bin/python -m pytest -n $(WORKERS) --dist worksteal -W ignore::DeprecationWarning

mutants: $(READY)
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[mutants]"
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/mutants.py

sbom: $(READY)
	test -d $(SCRATCH) || $(PYTHON) -m venv $(SCRATCH)
	$(SCRATCH)/bin/pip install --quiet --disable-pip-version-check cyclonedx-bom
	mkdir -p dist
	$(SCRATCH)/bin/cyclonedx-py environment --pyproject pyproject.toml --output-reproducible -o dist/sbom.json $(BIN)/python

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
	rm -rf $(PEERS) $(SCRATCH) $(VENV) site dist build *.egg-info

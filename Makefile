# Everything a fresh machine needs: Python 3.11 or newer, and make.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
READY := $(VENV)/.installed

export HF_HUB_DISABLE_TELEMETRY := 1

.PHONY: help install demo test check format wheel clean

help:
	@echo "make demo    train, convert, calibrate and evaluate on the digits (two minutes)"
	@echo "make test    run every test"
	@echo "make check   format, lint, types and tests"
	@echo "make wheel   build the wheel and install it into a scratch environment"

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[dev]"
	@touch $@

install: $(READY)

demo: $(READY)
	$(BIN)/seenn demo

test: $(READY)
	$(BIN)/python -m pytest

check: $(READY)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/python -m pytest

format: $(READY)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

wheel: $(READY)
	$(BIN)/python -m build --wheel --outdir dist .

clean:
	rm -rf $(VENV) dist build *.egg-info

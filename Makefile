# `make` lists the targets. They need Python >= 3.11 and the package registry.
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.NOTPARALLEL:
.PHONY: help reproduce test test-full gpu peers gpucc goldens lint lock clean FORCE

PAPER ?=
OUT ?= out/reproduce

NEW_ENOUGH := import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 11))
VERSION := import platform; print(platform.python_version())
PYTHON ?= $(shell for python in python3.11 python3.12 python3.13 python3; do \
  $$python -c '$(NEW_ENOUGH)' 2>/dev/null && echo $$python && break; done)

PIP_INSTALL := -m pip install -qq --disable-pip-version-check --no-input

help: ## this list
	@echo "usage: make TARGET [PYTHON=python3.12] [PAPER=slug] [OUT=folder]"
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-10s %s\n", $$1, $$2 }' \
	  Makefile

reproduce: .venv/.installed ## run the papers (PAPER= one) and write OUT/report.html
	@.venv/bin/python -m experiments.reproduce --out='$(OUT)' \
	  $(if $(PAPER),--paper='$(PAPER)')

test: .venv/.installed ## run the tests, the slow ones left out
	@third_party/install_apt.sh --check
	@.venv/bin/python -m pytest -n 2 --dist=loadfile

test-full: .venv/.installed .venv-peers/.installed .venv-gpucc/.installed ## run all tests, rivals included
	@third_party/install_apt.sh --check
	@.venv/bin/python -m pytest --full

gpu: .venv/.installed ## check and time the kernels on this machine's GPU
	@.venv/bin/python -m experiments.tools.ladder

peers: .venv-peers/.installed ## make .venv-peers, the rivals (compiles for minutes)

gpucc: .venv-gpucc/.installed ## make .venv-gpucc, a compiler for GPUs (needs none)

goldens: .venv/.installed .venv-peers/.installed ## record the rivals' answers again
	@.venv/bin/python -m experiments.tools.record_goldens
	@.venv-peers/bin/python tests/data/record_goldens.py "$$(.venv/bin/python \
	  -c 'from experiments.tools import rivals; print(rivals.smollm2_file())')"

lint: .venv/.installed ## check format, style, types and layers
	@.venv/bin/ruff format --check --quiet . || \
	  { echo "mend with: .venv/bin/ruff format ."; exit 1; }
	@.venv/bin/ruff check --quiet .
	@.venv/bin/pyrefly check --summary=none
	@.venv/bin/lint-imports

lock: ## resolve pyproject.toml into requirements.lock again
	@uv=uv; tools=; \
	if ! command -v uv >/dev/null; then \
	  tools=$$(mktemp -d) && trap 'rm -rf "$$tools"' EXIT && \
	  '$(PYTHON)' -m venv "$$tools" && \
	  "$$tools/bin/python" $(PIP_INSTALL) uv && uv=$$tools/bin/uv; \
	fi && \
	$$uv --quiet pip compile pyproject.toml --extra parquet --extra tune \
	  --extra viz --extra dev --universal --generate-hashes \
	  --no-emit-index-url --no-header --python-version 3.11 \
	  -o requirements.lock

clean: ## remove environments, caches and out/ (downloads stay)
	rm -rf .venv .venv-peers .venv-gpucc build dist out .pytest_cache .ruff_cache \
	  .import_linter_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# An environment without its stamp was interrupted, and is made anew; so is one
# that has lost its Python, or has another one than PYTHON= asks for.
.venv/.locked: requirements.lock
	@python='$(PYTHON)'; \
	if ! "$${python:-false}" -c '$(NEW_ENOUGH)' 2>/dev/null; then \
	  got=$$("$${python:-false}" --version 2>&1 | head -n 1); \
	  echo "PYTHON: got '$$python' ($${got:-not a Python}), expected Python" \
	    ">= 3.11 with venv; pass PYTHON=/path/to/python3.11" >&2; \
	  exit 1; \
	fi; \
	version=$$("$$python" -c '$(VERSION)'); \
	echo "making .venv: Python $$version, packages of requirements.lock" \
	  "(about a minute)"; \
	rm -rf .venv && "$$python" -m venv .venv && \
	.venv/bin/python $(PIP_INSTALL) --require-hashes --no-deps \
	  -r requirements.lock && \
	echo "$$version" > $@

ifeq ($(wildcard .venv/bin/python),)
.venv/.locked: FORCE
else ifneq ($(origin PYTHON),file)
ifneq ($(shell '$(PYTHON)' -c '$(VERSION)' 2>&1 || echo none),$(shell cat .venv/.locked 2>&1))
.venv/.locked: FORCE
endif
endif

.venv/.installed: .venv/.locked pyproject.toml
	@echo "installing this checkout into .venv"
	@.venv/bin/python $(PIP_INSTALL) --no-deps --no-build-isolation -e .
	@touch $@

.venv-peers/.installed: requirements-peers.txt | .venv/.locked
	@echo "making .venv-peers: the rivals (one compiles for many minutes)"
	@rm -rf .venv-peers && .venv/bin/python -m venv .venv-peers
	@.venv-peers/bin/python $(PIP_INSTALL) -r requirements-peers.txt
	@touch $@

.venv-gpucc/.installed: requirements-gpucc.lock | .venv/.locked
	@echo "making .venv-gpucc: the GPU compiler (two gigabytes)"
	@rm -rf .venv-gpucc && .venv/bin/python -m venv .venv-gpucc
	@.venv-gpucc/bin/python $(PIP_INSTALL) --require-hashes --no-deps \
	  -r requirements-gpucc.lock
	@touch $@

# `make demo`, `make test` and `make lint` make the environment themselves; a second call finds it done.
SHELL := /bin/bash
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help
.PHONY: help install demo test lint bench

# The first of these that runs and is 3.11 or later (a name in PATH may be a launcher of an absent version).
PYTHON ?= $(shell for name in python3 python3.11 python3.12 python3.13 python3.14 /usr/bin/python3; do \
	"$$name" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1 \
	&& { echo "$$name"; break; }; done)
ARGS ?=

help:
	@echo 'make install       the environment in .venv'
	@echo 'make demo          the whole way on this machine (ARGS="--home DIR")'
	@echo 'make test          every test (ARGS="tests/test_plan.py -k seed")'
	@echo 'make lint          ruff and mypy'
	@echo 'make bench         what ingest costs, as ratios'

install: .venv/.stamp

.venv/.stamp: pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || { echo 'make: no python3 >= 3.11 with venv found in PATH;' \
		'install one (Debian: apt-get install python3 python3-venv) or call make PYTHON=/path/to/python3' >&2; exit 1; }
	@echo 'making .venv: two or three minutes the first time'
	"$(PYTHON)" -m venv .venv
	.venv/bin/python -m pip install --quiet --disable-pip-version-check -e '.[dev]' -c constraints.txt
	@touch $@

demo: install
	.venv/bin/lprism demo $(ARGS)

test: install
	.venv/bin/python -m pytest $(ARGS)

lint: install
	.venv/bin/ruff check
	.venv/bin/ruff format --check
	.venv/bin/mypy

bench: install
	.venv/bin/python -m tests.bench $(ARGS)

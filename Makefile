# `make demo`, `make test` and `make lint` make the environment themselves; a second call finds it done.
SHELL := /bin/bash
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help
.PHONY: help install demo test lint bench scale

# The first of these that runs and is 3.11 or later (a name in PATH may be a launcher of an absent version).
PYTHON ?= $(shell for name in python3 python3.11 python3.12 python3.13 python3.14 /usr/bin/python3; do \
	"$$name" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1 \
	&& { echo "$$name"; break; }; done)
ARGS ?=
# A test that fails is run again, since machines are shared; it is told as RERUN, and is worth a look.
AGAIN = --reruns 2 --reruns-delay 5

help:
	@echo 'make install       the environment in .venv'
	@echo 'make demo          the whole way on this machine (ARGS="--home DIR")'
	@echo 'make test          every test (ARGS="tests/test_plan.py -k seed")'
	@echo 'make lint          ruff and mypy'
	@echo 'make bench         what ingest costs, as ratios, and cycles'
	@echo 'make scale         what every stage costs as campaigns grow (half an hour, 10 GB of disk)'

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

# What measures this machine or presses on it is `alone` and has it to itself; the rest shares its cores.
test: install
ifneq ($(ARGS),)
	.venv/bin/python -m pytest $(ARGS)
else
	shared=0; .venv/bin/python -m pytest $(AGAIN) -m 'not alone' -n auto --dist loadfile || shared=$$?; \
	.venv/bin/python -m pytest $(AGAIN) -m alone && exit $$shared
endif

lint: install
	.venv/bin/ruff check
	.venv/bin/ruff format --check
	.venv/bin/mypy

bench: install
	.venv/bin/python -m tests.bench $(ARGS)
	.venv/bin/python -m tests.bench_deepdive

scale: install
	.venv/bin/python -m tests.bench_scale $(ARGS)

# What one can do here. `make` alone lists it; CONTRIBUTING.md says more about each.

PY := .venv/bin/python

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.NOTPARALLEL:
MAKEFLAGS += --no-print-directory

.PHONY: help demo demo-vm demo-nova test test-nova test-vm test-matrix test-faults test-crashes lint types security-review fuzz docs bench bench-service lock clean lab-installed all-installed test-races soak pictures

help:
	@echo "Bloomery: make TARGET [PYTHON=python3.12]"
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  \1\t\2/p' Makefile | expand -t 16

demo: lab-installed ## deploy, use and destroy an instance on a real Ironic, here; KEEP=1 leaves it all up; SERVE=1: do it yourself, in the web page
	@$(PY) -m bloomery.doors.cli.demo $(if $(filter 1,$(KEEP)),--keep) $(if $(filter 1,$(SERVE)),--serve)

demo-vm: lab-installed ## the same on a virtual machine that really boots, seen from inside; builds its images first; KEEP=1
	@$(PY) -m bloomery.doors.cli.demo_vm $(if $(filter 1,$(KEEP)),--keep)

demo-nova: all-installed ## create, use and delete a server of a real Nova on a real Ironic, here; KEEP=1 leaves it up
	@$(PY) tools/demo_nova.py $(if $(filter 1,$(KEEP)),--keep)

test: lint types ## everything that must pass before a commit: lint, types, then all tests
	@$(PY) tools/browser.py
	@$(PY) tools/run_tests.py -q -n $(or $(JOBS),4) --dist loadfile

test-nova: all-installed ## the scenarios with a whole real Nova 34, with our driver and with Nova's own
	@BLOOMERY_NOVA_DRIVERS=$${BLOOMERY_NOVA_DRIVERS:-bloomery.IronicDriver,ironic.IronicDriver} $(PY) -m pytest -q -n 2 --dist loadfile tests/nova

test-vm: all-installed ## the life of an instance on virtual machines that really boot; two hours under emulation, on two cores
	@$(PY) -m pytest -q -n 0 tests/vm

test-matrix: all-installed ## Nova's driver with Nova 31 to 34, each in its environment; NOVA="31 33" chooses
	@$(PY) tools/release_matrix.py --jobs $(or $(JOBS),2) $(NOVA)

test-faults: all-installed ## every request of every operation, and of Nova's driver, fails in every way; an hour on two cores
	@BLOOMERY_FAULT_CELLS=all $(PY) -m pytest -q -n $(or $(JOBS),4) tests/unwind/test_faults.py
	@BLOOMERY_FAULT_CELLS=all $(PY) -m pytest -q -n $(or $(JOBS),4) tests/door_matrix

test-crashes: all-installed ## Bloomery and Ironic are killed at every stage of every operation; some 40 minutes on two cores
	@BLOOMERY_CRASHES=all $(PY) -m pytest -q -n $(or $(JOBS),4) --dist loadfile tests/crashes

test-races: all-installed ## an operator, or another process, in the middle of every operation; a long time on two cores
	@BLOOMERY_RACES=all $(PY) -m pytest -q -n $(or $(JOBS),4) tests/races

soak: all-installed ## 2,000 lives on 50 played nodes with faults and kills, for 30 minutes at most; SOAK="--seed 7 --lives 500"
	@$(PY) tools/soak.py $(SOAK)

lint: all-installed ## ruff: rules and format
	@$(PY) -m ruff check --quiet
	@$(PY) -m ruff format --check --quiet || { echo "lint: format with: $(PY) -m ruff format" >&2; exit 1; }

types: all-installed ## mypy, strict, over sources, tests, tools and benchmarks
	@$(PY) -m mypy --no-error-summary --explicit-package-bases src tests tools benchmarks

security-review: all-installed ## review src/ by the ten pillars of CWE; FORMAT=json or sarif for programs
	@$(PY) -m tools.security_review --format $(or $(FORMAT),markdown) --accepted tools/security_review/accepted.toml src

fuzz: .venv/bin/python ## look for answers that our decoders cannot stand; SECONDS_LONG=120
	@$(PY) tools/install.py fuzz
	@PYTHONPATH=tests $(PY) -m fuzz $(or $(SECONDS_LONG),120)

docs: all-installed ## build the site into site/
	@NO_MKDOCS_2_WARNING=1 $(PY) -m mkdocs build --strict --quiet

pictures: all-installed ## the pictures of the web page in docs/assets/, made by the test that uses it in a browser
	@$(PY) tools/browser.py
	@BLOOMERY_PICTURES=docs/assets $(PY) -m pytest -q tests/doors_http/test_browser.py

bench: all-installed ## measure beside openstacksdk, metalsmith and Nova's driver, into benchmarks/results/ and docs/performance.md
	@$(PY) -m benchmarks.run

bench-service: all-installed ## the HTTP service under load, into benchmarks/results/ and docs/performance.md; needs `hey`
	@$(PY) -m benchmarks.serving

lock: ## resolve every dependency again into requirements/, and the deploy agent's (needs uv and a network)
	@tools/lock.sh

clean: ## remove what builds and tests left; .venv and .lab stay
	@rm -rf site dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	@find src tests tools benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +

lab-installed: .venv/bin/python
	@$(PY) tools/install.py lab $(if $(filter 1,$(SERVE)),http)

all-installed: .venv/bin/python
	@$(PY) tools/install.py lab test docs nova

.venv/bin/python:
	@tools/venv.sh .venv $(PYTHON)

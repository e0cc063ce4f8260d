PYTHON ?= python3
CC ?= cc
VENV := .venv
BIN := $(VENV)/bin

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.ONESHELL:
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help
export PYMON_WERROR := 1

NATIVE_C := $(wildcard native/core/*.c native/linux/*.c)
NATIVE_H := $(wildcard native/*/*.h)
NATIVE_TESTS := $(patsubst native/tests/%.c,%,$(wildcard native/tests/test_*.c))
CYTHON := $(wildcard native/cython/*.pyx native/cython/*.pxd)
CFLAGS := -std=c11 -D_GNU_SOURCE -g -Wall -Wextra -Werror -Inative/core -Inative/linux
SANITIZE := -O1 -fno-omit-frame-pointer -fsanitize=address,undefined -fno-sanitize-recover=all

.PHONY: help
help: ## what can be made
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

# --- set-up -----------------------------------------------------------------------------------

# $(call apt,FILE): as root, install what FILE lists and the machine has not; else say what is missing.
# Services that come with a package are neither started nor enabled.
define apt
missing=
for package in $$(sed 's/#.*//' $(1)); do
	dpkg-query -W -f='$${Status}' "$$package" 2>/dev/null | grep -q 'ok installed' || missing+=" $$package"
done
if [ -z "$$missing" ]; then
	exit 0
elif [ "$$(id -u)" != 0 ]; then
	echo "not root: Debian packages not installed:$$missing (what needs them fails or is skipped, and says so)"
	exit 0
fi
export DEBIAN_FRONTEND=noninteractive
for package in $$missing; do
	apt-cache policy "$$package" | grep -q 'Candidate: [^(]' || { apt-get update -qq; break; }
done
policy=/usr/sbin/policy-rc.d
if [ ! -e "$$policy" ]; then
	trap 'rm -f "$$policy"' EXIT
	printf '#!/bin/sh\nexit 101\n' >"$$policy"
	chmod +x "$$policy"
fi
echo "installing Debian packages:$$missing"
apt-get install -qq --no-install-recommends $$missing >/dev/null
if command -v systemctl >/dev/null; then
	dpkg -L $$missing | sed -nE 's|^(/usr)?/lib/systemd/system/([^/@]+\.service)$$|\2|p' | xargs -r systemctl disable --quiet
fi
endef

define no_apt
echo "no apt-get here: Debian packages are not looked at (what needs them fails or is skipped, and says so)"
endef

HAS_APT := $(shell command -v apt-get)

.PHONY: packages-build packages-test packages-vm
packages-build:
	@$(if $(HAS_APT),$(call apt,apt-packages-build.txt),$(no_apt))

packages-test:
	@$(if $(HAS_APT),$(call apt,apt-packages.txt),$(no_apt))

packages-vm:
	@$(if $(HAS_APT),$(call apt,apt-packages-vm.txt),$(no_apt))

$(VENV)/.installed: requirements/dev.txt | packages-build
	@command -v $(PYTHON) >/dev/null || { echo "$(PYTHON): not found; name a Python >= 3.11 with PYTHON="; exit 1; }
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || {
		echo "$(PYTHON) is $$($(PYTHON) -V); pymon needs Python >= 3.11: name one with PYTHON="
		exit 1
	}
	$(PYTHON) -m venv $(VENV) || { echo "$(PYTHON) cannot make a virtual environment: install python3-venv"; exit 1; }
	$(BIN)/python -m pip install --quiet --require-hashes -r requirements/dev.txt
	touch $@

$(VENV)/.editable: $(VENV)/.installed setup.py pyproject.toml requirements/runtime.in
	PYTHONWARNINGS="ignore:Editable installation" $(BIN)/python -m pip install --quiet --no-build-isolation --no-deps -e .
	touch $@

$(VENV)/.built: $(VENV)/.editable $(NATIVE_C) $(NATIVE_H) $(CYTHON)
	@$(BIN)/python setup.py --quiet build_ext --inplace
	touch $@

.PHONY: venv
venv: $(VENV)/.installed ## the virtual environment with the locked dependencies

.PHONY: build
build: $(VENV)/.built ## the native parts, and pymon installed in the environment from this folder

.PHONY: run
run: build ## everything on this machine: pymon up
	@exec $(BIN)/pymon up

# --- tests and checks ---------------------------------------------------------------------------

.PHONY: test
test: packages-test build native-test ## all set-up and every test but the slow ones; says what is skipped and why
	@$(BIN)/python -m pytest

.PHONY: check
check: venv native-warnings ## the quick loop: format, lint, types, layers
	@$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	PATH="$(CURDIR)/$(BIN):$$PATH" cython-lint native/cython
	$(BIN)/clang-format --dry-run -Werror $$(find native -name '*.[ch]')
	$(BIN)/python -m pytest --quiet tests/test_layers.py

.PHONY: native-warnings
native-warnings: packages-build
	@for source in $(NATIVE_C); do $(CC) $(CFLAGS) -O2 -fsyntax-only "$$source"; done

build/native/%: native/tests/%.c $(NATIVE_C) $(NATIVE_H) Makefile | packages-build
	@mkdir -p $(@D)
	$(CC) $(CFLAGS) -O2 -o $@ $< $(NATIVE_C)

build/native-san/%: native/tests/%.c $(NATIVE_C) $(NATIVE_H) Makefile | packages-build
	@mkdir -p $(@D)
	$(CC) $(CFLAGS) $(SANITIZE) -o $@ $< $(NATIVE_C)

.PHONY: native-test
native-test: $(NATIVE_TESTS:%=build/native/%) ## unit tests of the C parts
	@for test in $^; do timeout 120 "$$test" || { echo "$$test failed"; exit 1; }; done

.PHONY: native-san
native-san: $(NATIVE_TESTS:%=build/native-san/%) ## the same under the address and undefined behaviour sanitizers
	@for test in $^; do timeout 300 "$$test" || { echo "$$test failed"; exit 1; }; done

.PHONY: vm-test
vm-test: packages-vm build ## tests that boot a virtual machine
	@$(BIN)/python -m pytest -m vm tests/vm

.PHONY: soak
soak: packages-test build ## tests that run for a long time
	@$(BIN)/python -m pytest -m soak

.PHONY: bench
bench: build ## the benchmarks
	@$(BIN)/python -m pytest bench

# --- housekeeping -------------------------------------------------------------------------------

COMPILE := $(BIN)/pip-compile --quiet --upgrade --generate-hashes --allow-unsafe --strip-extras --no-header \
	--no-emit-index-url --no-emit-find-links --no-emit-trusted-host

.PHONY: lock
lock: venv ## requirements/*.txt anew from requirements/*.in
	@$(COMPILE) -o requirements/runtime.txt requirements/runtime.in
	$(COMPILE) -o requirements/dev.txt requirements/dev.in
	if grep -nE '^-|://' requirements/*.txt; then
		echo "requirements: a lock names packages, versions and hashes, and no place to get them from"
		exit 1
	fi

.PHONY: clean
clean: ## everything that was made here
	@rm -rf $(VENV) build dist *.egg-info pymon/_native/*.so .*_cache .hypothesis .benchmarks
	find . -name __pycache__ -prune -exec rm -rf {} +

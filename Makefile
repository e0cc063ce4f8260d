PYTHON ?= python3
CC ?= cc
VENV := .venv
BIN := $(VENV)/bin

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.ONESHELL:
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help
export WERROR := 1

NATIVE_C := $(wildcard native/core/*.c native/linux/*.c native/dns/*.c native/illumos/*.c)
NATIVE_H := $(wildcard native/*/*.h)
NATIVE_TESTS := $(patsubst native/tests/%.c,%,$(wildcard native/tests/test_*.c native/tests/fuzz_*.c))
FUZZ_TARGETS := $(filter fuzz_%,$(NATIVE_TESTS))
CYTHON := $(wildcard native/cython/*.pyx native/cython/*.pxd native/cffi/*.py)
CFLAGS := -std=c11 -D_GNU_SOURCE -g -Wall -Wextra -Werror -Inative/core -Inative/linux -Inative/dns -Inative/illumos
SANITIZE := -O1 -fno-omit-frame-pointer -fsanitize=address,undefined -fno-sanitize-recover=all
FUZZ_SECONDS ?= 60

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
	$(BIN)/clang-format --dry-run -Werror $$(find native tests/kstat -name '*.[ch]')
	$(BIN)/python -m pytest --quiet tests/test_layers.py

.PHONY: native-warnings
native-warnings: packages-build
	@for source in $(NATIVE_C); do $(CC) $(CFLAGS) -O2 -fsyntax-only "$$source"; done

# $(call variant,DIRECTORY): the C parts compiled once with its FLAGS, and each test linked with them.
define variant
build/$(1)/%.o: %.c $(NATIVE_H) Makefile | packages-build
	@mkdir -p $$(@D)
	$$(CC) $$(CFLAGS) $$(FLAGS) -c -o $$@ $$<

build/$(1)/parts.a: $(NATIVE_C:%.c=build/$(1)/%.o)
	@rm -f $$@
	ar rcs $$@ $$^

build/$(1)/%: native/tests/%.c build/$(1)/parts.a
	@$$(CC) $$(CFLAGS) $$(FLAGS) -o $$@ $$^ -pthread
endef
$(foreach directory,native native-san native-tsan,$(eval $(call variant,$(directory))))

build/fuzz/%: native/tests/%.c $(NATIVE_C) $(NATIVE_H) Makefile
	@mkdir -p $(@D)
	clang $(CFLAGS) $(SANITIZE) -fsanitize=fuzzer -DPYMON_LIBFUZZER -o $@ $< $(NATIVE_C) -pthread

# $(call run,PROGRAM...): each in turn; what is fuzzed elsewhere runs its seeds.
define run
for test in $(1); do
	timeout 300 "$$test" $$(ls -d "native/tests/seeds/$$(basename "$$test")" 2>/dev/null) || { echo "$$test failed"; exit 1; }
done
endef

.PHONY: native-test
native-test: FLAGS := -O2
native-test: $(NATIVE_TESTS:%=build/native/%) ## unit tests of the C parts, and the seeds of their fuzz targets
	@$(call run,$^)

.PHONY: native-san
native-san: FLAGS := $(SANITIZE)
native-san: $(NATIVE_TESTS:%=build/native-san/%) ## the same under the address, leak and undefined behaviour sanitizers
	@$(call run,$^)

.PHONY: native-tsan
native-tsan: FLAGS := -O1 -fsanitize=thread $(if $(findstring clang,$(CC)),,-Wno-tsan)
native-tsan: build/native-tsan/test_reader build/native-tsan/test_dns ## what has threads under the thread sanitizer
	@for test in $^; do
		TSAN_OPTIONS="halt_on_error=1 suppressions=native/tests/tsan.supp" timeout 300 setarch -R "$$test"
	done

# Finds stay in build/fuzz: a crash as a file of its own, what reached new code in the corpus.
.PHONY: fuzz
ifeq ($(shell command -v clang),)
fuzz:
	@echo "clang: not found; nothing was fuzzed (the seeds run in make native-test)"
else
fuzz: $(FUZZ_TARGETS:%=build/fuzz/%) ## fuzz the C parts, FUZZ_SECONDS for each target
	@for target in $(FUZZ_TARGETS); do
		mkdir -p "build/fuzz/corpus/$$target"
		"build/fuzz/$$target" -max_total_time=$(FUZZ_SECONDS) -max_len=8192 -timeout=10 -verbosity=0 -print_final_stats=1 \
			-artifact_prefix="build/fuzz/$$target-" "build/fuzz/corpus/$$target" "native/tests/seeds/$$target" ||
			{ echo "$$target failed"; exit 1; }
	done
endif

.PHONY: vm-test
vm-test: packages-vm build ## tests that boot a virtual machine
	@$(BIN)/python -m pytest -m vm tests/vm

.PHONY: soak
soak: packages-test build ## tests that run for a long time
	@$(BIN)/python -m pytest -m soak

.PHONY: bench
bench: packages-test build ## the benchmarks: ratios against the floor and peers; as root, for its cgroups
	@$(BIN)/python -m bench
	$(BIN)/python -m pytest -q bench

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

.PHONY: docs
docs: build ## docs/metrics.md from the catalogue
	@$(BIN)/python -m pymon.catalogue.document > docs/metrics.md

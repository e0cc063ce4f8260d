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

BPF_C := $(wildcard native/bpf/*.bpf.c)
NATIVE_C := $(filter-out $(BPF_C),$(wildcard native/core/*.c native/linux/*.c native/dns/*.c native/illumos/*.c native/bpf/*.c))
NATIVE_H := $(wildcard native/*/*.h)
NATIVE_TESTS := $(patsubst native/tests/%.c,%,$(wildcard native/tests/test_*.c native/tests/fuzz_*.c))
FUZZ_TARGETS := $(filter fuzz_%,$(NATIVE_TESTS))
THREADED := $(filter test_reader% test_dns,$(NATIVE_TESTS))
CYTHON := $(wildcard native/cython/*.pyx native/cython/*.pxd native/cffi/*.py)
CFLAGS := -std=c11 -D_GNU_SOURCE -D__EXTENSIONS__ -g -Wall -Wextra -Werror -Inative/core -Inative/linux -Inative/dns -Inative/illumos -Inative/bpf
RUNTIME := requirements/runtime.in requirements/agent.in requirements/proxy.in requirements/top.in
SANITIZE := -O1 -fno-omit-frame-pointer -fsanitize=address,undefined -fno-sanitize-recover=all
FUZZ_SECONDS ?= 60
TEST_PROCESSES ?= 2

.PHONY: help
help: ## what can be made
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

# --- set-up -----------------------------------------------------------------------------------

# $(call begin,WHAT) and $(end): what a step does, and how long it took.
# At a terminal it is bold, unless NO_COLOR is set.
begin = bold=; plain=
begin += ; if [ -t 1 ] && [ -z "$${NO_COLOR:-}" ] && [ "$${TERM:-dumb}" != dumb ]; then bold=$$'\e[1m'; plain=$$'\e[0m'; fi
begin += ; echo "$${bold}make: $(1)$${plain}"; SECONDS=0
end = echo "make:   $$SECONDS s"

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
$(call begin,Debian packages:$$missing)
apt-get install -qq --no-install-recommends $$missing >/dev/null
$(end)
if command -v systemctl >/dev/null; then
	dpkg -L $$missing | sed -nE 's|^(/usr)?/lib/systemd/system/([^/@]+\.service)$$|\2|p' | xargs -r systemctl disable --quiet
fi
endef

# $(call unpack,FILE): download what FILE lists and unpack it into build/bench/debian. Nothing is installed or started.
define unpack
missing=
mkdir -p build/bench/debian
for package in $$(sed 's/#.*//' $(1)); do
	compgen -G "build/bench/debian/$${package}_*.deb" >/dev/null || missing+=" $$package"
done
if [ -z "$$missing" ]; then
	exit 0
fi
$(call begin,Debian packages that are not installed:$$missing)
cd build/bench/debian
for package in $$missing; do
	apt-cache policy "$$package" | grep -q 'Candidate: [^(]' || { [ "$$(id -u)" != 0 ] || apt-get update -qq; break; }
done
for package in $$missing; do
	if ! { apt-get download -qq -o APT::Sandbox::User=root "$$package" && dpkg -x "$${package}"_*.deb .; }; then
		rm -f "$${package}"_*.deb
		echo "$$package: not there (what needs it is reported as absent)"
	fi
done
$(end)
endef

define no_apt
echo "no apt-get here: Debian packages are not looked at (what needs them fails or is skipped, and says so)"
endef

HAS_APT := $(shell command -v apt-get)

.PHONY: packages-build packages-test packages-bench packages-bench-unpacked packages-vm packages-deb
packages-build:
	@$(if $(HAS_APT),$(call apt,apt-packages-build.txt),$(no_apt))

packages-test:
	@$(if $(HAS_APT),$(call apt,apt-packages.txt),$(no_apt))

packages-bench: packages-bench-unpacked
	@$(if $(HAS_APT),$(call apt,apt-packages-bench.txt),$(no_apt))

packages-bench-unpacked:
	@$(if $(HAS_APT),$(call unpack,apt-packages-bench-unpacked.txt),$(no_apt))

packages-vm:
	@$(if $(HAS_APT),$(call apt,apt-packages-vm.txt),$(no_apt))

packages-deb:
	@$(if $(HAS_APT),$(call apt,apt-packages-deb.txt),$(no_apt))

# pip says errors only: its warnings are about where it looks for packages, which is the machine's affair.
PIP := $(BIN)/python -m pip --quiet --quiet --disable-pip-version-check

$(VENV)/.made: | packages-build
	@command -v $(PYTHON) >/dev/null || { echo "$(PYTHON): not found; name a Python >= 3.11 with PYTHON="; exit 1; }
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || {
		echo "$(PYTHON) is $$($(PYTHON) -V); pymon needs Python >= 3.11: name one with PYTHON="
		exit 1
	}
	$(call begin,a virtual environment in $(VENV) with $$($(PYTHON) -V))
	$(PYTHON) -m venv $(VENV) || { echo "$(PYTHON) cannot make a virtual environment: install python3-venv"; exit 1; }
	$(end)
	touch $@

$(VENV)/.runtime: requirements/runtime.txt requirements/build.txt $(VENV)/.made
	@$(call begin,the Python packages that pymon runs with and is built with)
	$(PIP) install --require-hashes -r requirements/runtime.txt -r requirements/build.txt
	$(end)
	touch $@

$(VENV)/.dev: requirements/dev.txt $(VENV)/.runtime
	@$(call begin,the Python packages that pymon is tested and checked with)
	$(PIP) install --require-hashes -r requirements/dev.txt
	$(end)
	touch $@

$(VENV)/.built: $(VENV)/.runtime setup.py $(NATIVE_C) $(BPF_C) $(NATIVE_H) $(CYTHON)
	@$(call begin,the native parts: compiled)
	$(BIN)/python setup.py --quiet build_ext --inplace
	$(end)
	touch $@

$(VENV)/.editable: pyproject.toml setup.py $(RUNTIME) | $(VENV)/.built
	@$(call begin,the command $(BIN)/pymon)
	$(PIP) install --no-build-isolation --no-deps -e .
	$(end)
	touch $@

.PHONY: venv
venv: $(VENV)/.dev ## the virtual environment with the locked dependencies

.PHONY: build
build: $(VENV)/.built $(VENV)/.editable ## the native parts, and pymon installed in the environment from this folder

.PHONY: run
run: build ## everything on this machine: pymon up
	@exec $(BIN)/pymon up

# --- tests and checks ---------------------------------------------------------------------------

.PHONY: test
test: packages-test venv build native-test ## all set-up and every test but the slow ones; says what is skipped and why
	@$(BIN)/python -m pytest --numprocesses=$(TEST_PROCESSES) --no-loadscope-reorder

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
	$$(AR) rcs $$@ $$^

build/$(1)/%: native/tests/%.c build/$(1)/parts.a
	@$$(CC) $$(CFLAGS) $$(FLAGS) -o $$@ $$^ -pthread
endef
$(foreach directory,native native-san native-tsan native-arm64,$(eval $(call variant,$(directory))))

build/fuzz/%: native/tests/%.c $(NATIVE_C) $(NATIVE_H) Makefile
	@mkdir -p $(@D)
	clang $(CFLAGS) $(SANITIZE) -fsanitize=fuzzer -DPYMON_LIBFUZZER -o $@ $< $(NATIVE_C) -pthread

# $(call run,PROGRAM...): each in turn, by RUNNER where another machine's are run; what is fuzzed elsewhere runs its seeds.
define run
for test in $(1); do
	timeout 300 $(RUNNER) "$$test" $$(ls -d "native/tests/seeds/$$(basename "$$test")" 2>/dev/null) || { echo "$$test failed"; exit 1; }
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
native-tsan: $(THREADED:%=build/native-tsan/%) ## what has threads under the thread sanitizer
	@for test in $^; do
		TSAN_OPTIONS="halt_on_error=1 suppressions=native/tests/tsan.supp" timeout 300 setarch -R "$$test"
	done

.PHONY: native-arm64
native-arm64: CC := aarch64-linux-gnu-gcc
native-arm64: AR := aarch64-linux-gnu-ar
native-arm64: FLAGS := -O2
native-arm64: RUNNER := qemu-aarch64-static -L /usr/aarch64-linux-gnu
native-arm64: packages-deb $(NATIVE_TESTS:%=build/native-arm64/%) ## the same compiled for aarch64, and run by qemu
	@$(call run,$(filter build/%,$^))

# Finds stay in build/fuzz: a crash as a file of its own, what reached new code in the corpus.
.PHONY: fuzz
ifeq ($(wildcard $(shell clang --print-runtime-dir 2>/dev/null)/libclang_rt.fuzzer*.a),)
fuzz:
	@echo "clang with libFuzzer (libclang-rt-14-dev): not found; nothing was fuzzed (the seeds run in make native-test)"
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
vm-test: packages-vm venv build ## tests that boot a virtual machine
	@$(BIN)/python -m pytest -m vm tests/vm

FRESH ?= run test

.PHONY: fresh-test
fresh-test: ## README's two commands on a bare Debian of debootstrap, as root; FRESH=run for the first alone
	@tests/fresh/fresh.sh $(FRESH)

.PHONY: soak
soak: packages-test venv build ## tests that run for a long time
	@$(BIN)/python -m pytest -m soak

SUITE ?=

.PHONY: bench
bench: packages-test packages-bench venv build ## the benchmarks with floors and peers, into build/bench; SUITE="scrape --containers 100" for some; as root
	@$(BIN)/python -m bench suite $(SUITE)
	$(BIN)/python -m pytest -q bench

A ?=
B ?=

.PHONY: bench-compare
bench-compare: venv build ## two results of make bench side by side: A=a.json B=b.json
	@$(BIN)/python -m bench compare $(A) $(B)

# --- packages -----------------------------------------------------------------------------------

$(VENV)/.packages: requirements/packages.txt $(VENV)/.dev
	@$(call begin,the Python packages that packages are made and checked with)
	$(PIP) install --require-hashes -r requirements/packages.txt
	$(end)
	touch $@

VERSION = $(shell sed -n 's/^__version__ = "\(.*\)"/\1/p' pymon/__init__.py)

.PHONY: sdist
sdist: $(VENV)/.runtime ## the source package in dist, which gcc alone builds
	@rm -rf dist/pymon-*.tar.gz *.egg-info
	$(BIN)/python setup.py --quiet --quiet sdist

# From the sdist: a wheel of this folder has what an earlier build left in build/.
.PHONY: wheel
wheel: sdist $(VENV)/.packages ## a wheel of this Python in dist, from the source package, for the oldest glibc it runs with
	@rm -rf build/wheel dist/pymon-*.whl
	$(call begin,a wheel)
	$(PIP) wheel --no-build-isolation --no-deps -w build/wheel dist/pymon-$(VERSION).tar.gz
	PATH="$(CURDIR)/$(BIN):$$PATH" auditwheel repair -w dist build/wheel/*.whl
	$(end)
	ls dist/*.whl

# The source package, with what depends on the version and the commit filled in.
.PHONY: deb
deb: sdist packages-build packages-deb ## Debian packages in dist: pymon, pymon-agent, pymon-proxy
	@rm -rf build/deb dist/pymon*.deb
	mkdir -p build/deb
	tar -xzf dist/pymon-$(VERSION).tar.gz -C build/deb
	cd build/deb/pymon-$(VERSION)
	cp -r deploy/debian debian
	needed=$$(sed 's/#.*//' $(CURDIR)/apt-packages-build.txt | xargs | sed 's/ /, /g')
	sed -i "s/@BUILD_DEPENDS@/$$needed/" debian/control
	sed -i "s/@VERSION@/$(VERSION)/; s/@DATE@/$$(git -C $(CURDIR) log -1 --format=%cD)/" debian/changelog
	$(call begin,Debian packages)
	dpkg-buildpackage --build=binary --no-sign >../log 2>&1 || { tail -30 ../log; exit 1; }
	$(end)
	lintian --fail-on error,warning ../pymon_*.changes || { echo "lintian: see above"; exit 1; }
	mv ../pymon*.deb $(CURDIR)/dist

BASE ?= debian:bookworm-slim
IMAGE ?= pymon:$(VERSION)

# Without cgroups of its own, so that it is built where crun cannot make any.
.PHONY: image
image: ## an image with the Debian package in dist, on the Debian BASE, by podman
	@command -v podman >/dev/null || { echo "podman: not found; it builds the image"; exit 1; }
	podman build --isolation=chroot --network=host --build-arg BASE=$(BASE) -t $(IMAGE) -f deploy/Containerfile dist

PACKAGES ?= deb units wheel sdist image

.PHONY: package-test
package-test: wheel deb packages-deb packages-vm ## what is in dist, installed and run on bare Debians (debootstrap), as root; PACKAGES=deb for one alone
	@tests/packages/packages.sh $(PACKAGES)

.PHONY: kubernetes-check
kubernetes-check: $(VENV)/.packages ## deploy/kubernetes, put together by kubectl, against the schemas of two versions of Kubernetes
	@command -v kubectl >/dev/null || { echo "kubectl: not found; it puts deploy/kubernetes together"; exit 1; }
	mkdir -p build
	kubectl kustomize deploy/kubernetes >build/kubernetes.yaml
	for version in 1.30 1.37; do
		$(BIN)/kubernetes-validate --strict --kubernetes-version "$$version" build/kubernetes.yaml
	done

# --- housekeeping -------------------------------------------------------------------------------

COMPILE := $(BIN)/pip-compile --quiet --upgrade --generate-hashes --allow-unsafe --strip-extras --no-header \
	--no-emit-index-url --no-emit-find-links --no-emit-trusted-host

.PHONY: lock
lock: venv ## requirements/*.txt anew from requirements/*.in
	@$(COMPILE) -o requirements/runtime.txt $(RUNTIME)
	$(COMPILE) -o requirements/build.txt requirements/build.in
	$(COMPILE) -o requirements/dev.txt requirements/dev.in
	$(COMPILE) -o requirements/packages.txt requirements/packages.in
	$(COMPILE) -o requirements/docs.txt requirements/docs.in
	if grep -nE '^-|://' requirements/*.txt; then
		echo "requirements: a lock names packages, versions and hashes, and no place to get them from"
		exit 1
	fi

.PHONY: clean
clean: ## everything that was made here
	@rm -rf $(VENV) build dist *.egg-info pymon/_native/*.so pymon/_native/*.o .*_cache .hypothesis .benchmarks
	find . -name __pycache__ -prune -exec rm -rf {} +

.PHONY: man
man: build ## manual pages of all commands in build/man
	@$(BIN)/python docs/man.py build/man

$(VENV)/.docs: requirements/docs.txt $(VENV)/.dev
	@$(call begin,the Python packages that the documents are made with)
	$(PIP) install --require-hashes -r requirements/docs.txt
	$(end)
	touch $@

# In namespaces of its own, where the node's name, addresses and ports are free.
.PHONY: pictures
pictures: packages-test venv build ## the pictures of the documents, of what it measures for some minutes; as root
	@unshare --net --uts sh -c 'ip link set lo up && hostname node1 && PYTHONPATH=. exec "$$0" docs/pictures/make.py' \
		$(BIN)/python

# A browser must get nothing that a page is made of from anywhere else.
.PHONY: docs
docs: build $(VENV)/.docs ## the pages that are generated in docs, and all documents as a site in build/site
	@$(BIN)/python docs/metrics.py >docs/metrics.md
	$(BIN)/python docs/configuration.py >docs/configuration.md
	rm -rf build/docs build/site
	mkdir -p build/docs
	cp --parents README.md CHANGELOG.md docs/*.md docs/*.svg docs/benchmarks/*.md docs/benchmarks/*.svg docs/pictures/*.png bench/README.md bench/results/*.md deploy/*.y*ml build/docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build
	if grep -rnoE --include='*.html' '(src|<link[^>]* href)="(https?:)?//[^"]*"' build/site; then
		echo "docs: the site refers to another one"
		exit 1
	fi

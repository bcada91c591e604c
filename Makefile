# Every task of this repository, one command each. `make` lists them. Everything is made in .venv
# and build; another interpreter or compiler: make test PYTHON=python3.12 CXX=clang++
PYTHON ?= python3
VENV ?= .venv
BUILD ?= build
# Of `make test` and `make bench`, as in: make test ARGS="-x -k dilation"
ARGS ?=
# What `make bench` writes and `make bench-report` reads.
BENCHMARKS ?= $(BUILD)/benchmarks.json

BIN := $(VENV)/bin
PIP := $(BIN)/pip --disable-pip-version-check
SOURCES := $(shell find src native cmake -name '*.py' -o -name '*.pyi' -o -name py.typed \
             -o -name '*.h' -o -name '*.cc' -o -name '*.cmake')
# Where compiling goes on from where it stopped, as it cannot in a plain `pip install .`.
export SKBUILD_BUILD_DIR = $(BUILD)/{wheel_tag}

.PHONY: help
help:  ## list the tasks
	@sed -n 's/^\([a-z0-9-]*\):.*  ## /\1\t/p' $(MAKEFILE_LIST) | expand -t 14

.PHONY: demo
demo: $(VENV)/installed  ## build, install into .venv, show the documented examples and a photograph
	$(BIN)/python examples/documented.py
	$(BIN)/python examples/photograph.py

.PHONY: test
test: $(VENV)/installed  ## build, install into .venv, run the tests
	$(BIN)/pytest $(ARGS)

.PHONY: lint
lint: $(VENV)/lint  ## check style and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/clang-format --dry-run -Werror native/*.h native/*.cc

.PHONY: format
format: $(VENV)/lint  ## lay out Python and C++ as `make lint` wants it
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/clang-format -i native/*.h native/*.cc

.PHONY: bench
bench: $(VENV)/installed $(VENV)/benchmarks  ## compare speed with seven libraries, all rows: ARGS=--all
	$(BIN)/python -m benchmarks.run --json $(BENCHMARKS) $(ARGS)

.PHONY: bench-report
bench-report: $(VENV)/installed $(VENV)/benchmarks  ## tables and plots of the documents, from that
	$(BIN)/python -m benchmarks.report $(BENCHMARKS)

# $(call native,NAME,OPTIONS): build the native core and its self-test in build/NAME;
# $(call selftest,NAME,OPTIONS): and run it.
define native
	$(BIN)/cmake -S . -B $(BUILD)/$(1) -G Ninja -DCMAKE_MAKE_PROGRAM=$(abspath $(BIN)/ninja) \
	  -DDEPTHWISE_SELFTEST=ON $(CMAKE_ARGS) $(2)
	$(BIN)/cmake --build $(BUILD)/$(1)
endef
define selftest
	$(call native,$(1),$(2))
	$(BIN)/ctest --test-dir $(BUILD)/$(1) --output-on-failure
endef

.PHONY: selftest
selftest: $(VENV)/build  ## test the native core without Python
	$(call selftest,selftest,-DDEPTHWISE_PYTHON=OFF)

.PHONY: aarch64
aarch64: $(VENV)/build  ## the same, cross-compiled for 64-bit Arm and run under qemu-user
	$(call selftest,aarch64,-DDEPTHWISE_PYTHON=OFF \
	  -DCMAKE_TOOLCHAIN_FILE=cmake/aarch64-linux-gnu.cmake)

# The interpreter is not built with the sanitizers, so their run-time library is loaded ahead of it,
# and that of C++ with it, whose exceptions it intercepts. Python itself never frees everything, and
# pytest would swallow the report of an error. The best instruction set alone, where a test runs on
# one at a time, saves half of the time; so does the transform without 16-bit types, which are
# packed to float32.
SANITIZED := $(BUILD)/sanitize/package
BEST_ISA = $(shell $(BIN)/python -c 'from depthwise import _native; \
  print(" and ".join(f"not {isa}" for isa in _native.supported_isas()[1:]))')
SANITIZER_LIBRARIES = $(foreach name,asan stdc++,$(shell $(CXX) -print-file-name=lib$(name).so))
.PHONY: sanitizer-build
sanitizer-build: $(VENV)/installed
	$(call native,sanitize,-DDEPTHWISE_SANITIZE=ON -DCMAKE_BUILD_TYPE=Debug \
	  -DCMAKE_CXX_COMPILER=$(CXX) -DPython_EXECUTABLE=$(abspath $(BIN)/python))
.PHONY: sanitize
sanitize: sanitizer-build  ## self-test and kernel tests under GCC's sanitizers
	$(BIN)/ctest --test-dir $(BUILD)/sanitize --output-on-failure
	$(BIN)/cmake --install $(BUILD)/sanitize --prefix $(SANITIZED)
	cp src/depthwise/*.py $(SANITIZED)/depthwise/
	LD_PRELOAD='$(SANITIZER_LIBRARIES)' ASAN_OPTIONS=detect_leaks=0 \
	  PYTHONPATH=$(SANITIZED) \
	  $(BIN)/pytest -p no:faulthandler -p no:cacheprovider --capture=sys \
	  -k '$(BEST_ISA) and not (test_random_values and float16)' \
	  tests/test_exact.py tests/test_pixel_ends.py tests/test_strips.py \
	  tests/test_transform.py::test_random_values

.PHONY: clean
clean:  ## remove .venv, build and all caches
	rm -rf $(VENV) $(BUILD) dist .hypothesis .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -prune -exec rm -rf {} +

# The files below .venv tell what was last installed there.
missing = { echo "depthwise needs $(1). Debian, Ubuntu: apt install g++ make python3-dev \
  python3-venv" >&2; exit 1; }
COMPILERS := $(if $(filter default,$(origin CXX)),c++ g++ clang++,$(firstword $(CXX)))

$(VENV)/ready:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' \
	  || $(call missing,Python 3.10 or newer)
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || $(call missing,the venv module of $(PYTHON))
	@test -e "$$($(PYTHON) -c 'import sysconfig; print(sysconfig.get_path("include"))')/Python.h" \
	  || $(call missing,the header files of $(PYTHON))
	@for name in $(COMPILERS); do command -v $$name && exit; done >/dev/null \
	  || $(call missing,a C++20 compiler)
	$(PYTHON) -m venv --clear --upgrade-deps $(VENV)
	touch $@

$(VENV)/installed: $(SOURCES) CMakeLists.txt pyproject.toml README.md $(VENV)/build
	$(PIP) install --no-build-isolation '.[test,examples]'
	touch $@

# It names the package, which has to be there, or pip would look for one elsewhere.
$(VENV)/benchmarks: | $(VENV)/installed
$(VENV)/lint $(VENV)/build $(VENV)/benchmarks: $(VENV)/%: pyproject.toml | $(VENV)/ready
	$(PIP) install --group $*
	touch $@

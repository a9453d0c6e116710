# `make audit` audits this machine, `make test` runs every tier that this machine can run.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: audit test check generate packages docs bench soak faults mutants fuzz wheelhouse clean

audit: $(STAMP)
	@$(BIN)/tuneagent audit; code=$$?; [ $$code -eq 3 ] || [ $$code -eq 4 ] || exit $$code

$(STAMP): pyproject.toml requirements/dev.lock tools/kernels_hook.py $(wildcard native/*)
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || tools/install_venv.sh
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/pip install --quiet --require-hashes -r requirements/dev.lock
	@$(BIN)/pip install --quiet --no-deps --no-build-isolation --editable .
	@touch $(STAMP)

test: $(STAMP)
	@$(BIN)/python tools/run_tiers.py

check: $(STAMP)
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python tools/generate.py --check

generate: $(STAMP)
	$(BIN)/python tools/generate.py

# The deb and the rpm, in dist/. ARCH=aarch64 builds them for 64-bit Arm machines.
ARCH ?= $(shell uname -m)
packages: $(STAMP)
	$(BIN)/python tools/packages.py --architecture $(ARCH)

# The pages as a site with search, in build-out/site. A broken link is an error.
docs: $(STAMP)
	$(BIN)/sphinx-build --quiet --nitpicky --fail-on-warning --builder html docs build-out/site
	@echo "build-out/site/index.html"

bench: $(STAMP)
	$(BIN)/python tests/bench/bench.py

# The random tests, run for longer, next boots of a virtual machine, and an Arm machine with pages of 64 KiB.
SOAKED := tests/unit/test_properties.py tests/unit/test_rollout.py tests/unit/test_faults.py tests/unit/test_hunt.py \
  tests/host/test_tuned_loader.py $(wildcard tests/host/test_*_peer.py) tests/arm64 \
  tests/cluster/test_containerd_files.py tests/cluster/test_kubelet_files.py
soak: $(STAMP)
	TUNEAGENT_SOAK=1 $(BIN)/pytest -W default -n auto -s $(SOAKED)
	TUNEAGENT_SOAK=1 $(BIN)/pytest -W default -s tests/vm/test_next_boots.py

# Apply and undo killed before and after every call that changes a file. `make faults PAIRS=--pairs` kills recovery too.
faults: $(STAMP)
	$(BIN)/python tests/faults/kills.py $(PAIRS)

# The code changed one place at a time: does the unit tier notice? Takes an hour or more on two cores.
mutants: $(STAMP)
	$(BIN)/python tests/mutants/mutants.py $(NAMES)

# Every parser of a host's files against random input, SECONDS long.
SECONDS ?= 60
fuzz: $(STAMP)
	$(BIN)/python tests/fuzz/parsers.py $(SECONDS)

# Wheels for the image's Python (Debian bookworm, 3.11), so that the image build needs no package index.
WHEELS := --only-binary=:all: --python-version 3.11 --implementation cp --require-hashes --no-deps --quiet \
  --platform manylinux_2_28_x86_64 --platform manylinux_2_17_x86_64 --platform manylinux2014_x86_64 \
  --platform manylinux1_x86_64
wheelhouse: $(STAMP)
	@rm -rf wheelhouse && mkdir -p wheelhouse/agent wheelhouse/operator
	@$(BIN)/pip wheel --quiet --no-deps --no-build-isolation --wheel-dir wheelhouse/agent .
	@cp wheelhouse/agent/*.whl wheelhouse/operator/
	@$(BIN)/pip download $(WHEELS) --dest wheelhouse/agent --requirement requirements/agent.lock
	@$(BIN)/pip download $(WHEELS) --dest wheelhouse/operator --requirement requirements/operator.lock

clean:
	rm -rf $(VENV) wheelhouse dist build-out .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache

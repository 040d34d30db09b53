# A fresh clone needs Python 3.11+, git and make; `setup` installs everything else into .venv.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: setup demo test test-long coverage golden docs man pictures soak chaos lint clean

setup: .venv/.installed

.venv/.installed: pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "coord needs Python 3.11 or later: make $(MAKECMDGOALS) PYTHON=python3.12" >&2; exit 1; }
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch $@

demo: setup
	@$(BIN)/coord demo

# Tests wait for processes much of their time, so more of them run at once than there are cores.
PYTEST := -m pytest --dist loadscope --no-loadscope-reorder

test: lint
	$(BIN)/python $(PYTEST) --numprocesses 3 -m "not long"

# Storms, soaks and benchmarks.
test-long: setup
	$(BIN)/python $(PYTEST) --numprocesses 2 -m long
	$(MAKE) soak chaos
	$(BIN)/python -m benchmarks

# The share of lines that `make test` executes, also in commands, workers and their children.
coverage: setup
	rm -rf build/coverage && mkdir -p build/coverage
	$(BIN)/coverage run $(PYTEST) --numprocesses 3 --timeout 300 -m "not long"
	$(BIN)/coverage combine --quiet
	$(BIN)/coverage report --skip-covered

# Renew tests/golden: the expected help, JSON and MCP tools.
golden: setup
	$(BIN)/pytest tests/contracts/test_golden.py --renew-golden

# Write the reference chapters and the man page from the program.
docs: setup
	$(BIN)/python -m docs.generate

# Install the man page for this user: man coord. A wheel has it in share/man.
MANDIR ?= $(HOME)/.local/share/man
man:
	install -d '$(MANDIR)/man1'
	install -m 644 docs/coord.1 '$(MANDIR)/man1/coord.1'

# As `docs`, and draw the pictures of a real run.
pictures: setup
	$(BIN)/python -m docs.generate --pictures

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

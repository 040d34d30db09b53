# What a fresh clone needs is Python 3.11+, git and make; everything else is installed into .venv by `setup`.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: setup demo test golden docs pictures soak chaos lint clean

setup: .venv/.installed

.venv/.installed: pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "coord needs Python 3.11 or later: make $(MAKECMDGOALS) PYTHON=python3.12" >&2; exit 1; }
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch $@

demo: setup
	@$(BIN)/coord demo

test: lint
	$(BIN)/pytest --numprocesses 2 --dist loadscope --no-loadscope-reorder # most tests wait for processes: two at a time take half as long

# What help, JSON and tools look like is kept in tests/golden; this writes it anew.
golden: setup
	$(BIN)/pytest tests/contracts/test_golden.py --renew-golden

# The reference chapters, written from the program.
docs: setup
	$(BIN)/python -m docs.generate

# And the pictures of a real run.
pictures: setup
	$(BIN)/python -m docs.generate --pictures

# MINUTES=60 for a night; a part of it is among the tests.
soak: setup
	$(BIN)/python -m benchmarks.soak --minutes $(or $(MINUTES),10)

# Everything that may go wrong, long enough to be measured; ONLY=storm,… for some of it. A minute of it is among the tests.
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

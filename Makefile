# Two commands on a fresh machine (python3 and make): `make demo` and `make test`. Everything else is here for developers.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed

.PHONY: setup demo test zoo lint format soak soak-fleet clean help

help:
	@echo "make demo   run the main job: all protocols under load, the Raft leader killed twice, percentiles and a verdict"
	@echo "make test   run the whole test suite"
	@echo "make zoo    plant every known bug, 20 seeds each with healthy twins, and see whether the judge notices (hours; SEEDS=2 is short)"
	@echo "make lint   ruff, mypy --strict, import arrows"
	@echo "make soak   play SEEDS=20000 simulated Raft clusters and check every invariant after every step"
	@echo "make soak-fleet   run master and workers for DURATION=1h and see whether memory, files, threads and greenlets stay flat"
	@echo "make setup  create .venv from requirements.lock (done by all the others when needed)"

setup: $(STAMP)

$(STAMP): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit("swarmproof needs Python 3.11 or newer, this is " + sys.version.split()[0]) if sys.version_info < (3, 11) else None'
# A setup that was interrupted, or whose Python is gone, leaves a .venv without a working pip: it is made anew.
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || said=$$($(PYTHON) -m venv --clear $(VENV) 2>&1) || { \
		rm -rf $(VENV); \
		if $(PYTHON) -c 'import ensurepip' 2>/dev/null; then echo "cannot make $(VENV): $$said"; \
		else echo "cannot make $(VENV): $(PYTHON) has no venv module; install it (Debian, Ubuntu: apt install python3-venv) and run make again"; fi >&2; \
		exit 1; }
	@echo "installing the locked dependencies into $(VENV) ..."
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $(STAMP)

demo: setup
	@$(BIN)/swarmproof run demo

# In portions, three at a time; `make test TESTS=tests/judge` runs a part in one process.
test: setup
	@$(BIN)/python -m $(if $(TESTS),pytest $(TESTS),tests.side_by_side)

zoo: setup
	@$(BIN)/swarmproof zoo run --seeds $(or $(SEEDS),20)

lint: setup
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@PATH=$(BIN):$$PATH $(BIN)/lint-imports

soak: setup
	@$(BIN)/python -m tests.raft_simulator --seeds $(or $(SEEDS),20000) --jobs 2

soak-fleet: setup
	@$(BIN)/python -m benchmarks.soak_fleet --duration $(or $(DURATION),1h)

format: setup
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

clean:
	rm -rf $(VENV) build *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis

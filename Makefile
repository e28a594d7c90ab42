# Everything here runs from a clone on a machine that has python3, python3-venv, make and git.
PYTHON ?= python3
VENV = .venv
BIN = $(VENV)/bin
DEMO = demo

.PHONY: demo test golden histories test-faults test-ledger test-slurm bench bench-growth lint format lock clean

# The environment comes from the lock file alone: exact versions, checked against their hashes.
$(VENV): requirements.lock pyproject.toml
	$(PYTHON) -m venv --clear $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $(VENV)

$(DEMO)/config.yaml: | $(VENV)
	$(BIN)/python scripts/simulate.py --out $(DEMO) --seed 1 --downlinks 230401001

demo: $(VENV) $(DEMO)/config.yaml # simulate a downlink and process it to its receipt
	$(BIN)/snakemake -c2 dl=230401001 --configfile $(DEMO)/config.yaml
	@$(BIN)/python scripts/delivered.py --configfile $(DEMO)/config.yaml

test: $(VENV) # what every change must pass; some minutes
	$(BIN)/python -m pytest -n auto

golden: $(VENV) # all golden cases through the whole workflow
	$(BIN)/python -m pytest -n auto -m "golden or not golden" tests/test_golden_workflow.py

histories: $(VENV) # 20,000 random delivery histories
	$(BIN)/python -m pytest -m long tests/test_histories.py

test-faults: $(VENV) # harm to every rule at random moments, and random pairs of invocations side by side
	$(BIN)/python -m pytest -n 2 -m faults tests/faults

test-ledger: $(VENV) # the ledger on a private PostgreSQL, which root has installed if need be
	$(BIN)/python -m tests.ledger.private_postgresql --install
	$(BIN)/python -m pytest -n 2 -m postgresql tests

test-slurm: $(VENV) # on a private Slurm, which root has installed if need be; HALFPIPE_SLURM=site: on the one here
	@test "$$HALFPIPE_SLURM" = site || $(BIN)/python -m tests.slurm.private_slurm --install
	$(BIN)/python -m pytest -n 2 -m slurm tests/slurm

bench: $(VENV) # what each step costs beside cp; on a machine that does nothing else
	$(BIN)/python -m benchmarks

bench-growth: $(VENV) # how the time grows, as a picture in docs/
	$(BIN)/python -m benchmarks.growth

lint: $(VENV)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/snakefmt --check Snakefile workflow
	$(BIN)/snakemake --lint
	$(BIN)/mypy

format: $(VENV)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/snakefmt Snakefile workflow

lock: # renew requirements.lock after a change of dependencies; needs uv
	uv pip compile --quiet --universal --generate-hashes --no-header --python-version 3.11 \
	  --group dev -o requirements.lock pyproject.toml

clean: # all that is made here, but for the environment
	rm -rf $(DEMO) work stage .snakemake .hypothesis .mypy_cache .ruff_cache

# Everything here runs from a clone on a machine that has python3, python3-venv, bash, make and git.
SHELL = bash
.SHELLFLAGS = -o pipefail -c
PYTHON ?= python3
VENV = .venv
BIN = $(VENV)/bin
DEMO = demo
# Tests start hundreds of programs, each of which would compile all modules anew.
unexport PYTHONDONTWRITEBYTECODE
PIP = $(BIN)/python -m pip install --disable-pip-version-check
# CLOCK=40d gives tests another clock, as tests/support/other_clock.py says; TZ, LANG and the umask are the caller's.
OTHER_CLOCK = $(BIN)/python -m tests.support.other_clock
PYTEST = $(if $(CLOCK),$(OTHER_CLOCK) $(CLOCK)) $(BIN)/python -m pytest

# The tests that a day, a zone or an umask can spoil, as far as they are fast.
OF_DAYS = $(addprefix tests/unit/,ledger cli/test_verb_acts.py cli/test_verb_show.py cli/test_verb_status.py) \
  $(addprefix tests/unit/status/test_,failed_jobs.py harm.py site_causes.py) \
  tests/unit/pages/test_board.py \
  $(addprefix tests/unit/site/test_,alarms.py cleanup.py publish.py) \
  $(addprefix tests/unit/tables/test_,found_downlinks.py incomplete_runs.py) \
  $(addprefix tests/unit/downlink/test_,submit.py handoff_causes.py) \
  tests/contract/test_accounts.py tests/contract/test_working_directory.py

# What a Python must do to make the environment; an old one must be able to read it.
SUITED = import sys, ssl, venv, ensurepip; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))

# Of what pip says, how far it is.
HOW_FAR = awk '/^Collecting/ && ++n % 20 == 0 {print "  " n " of some 100 are here"} \
  /^Installing/ {print "  unpacking them"} {fflush()}'

.PHONY: help demo what-demo-does test test-another-day test-workflow golden histories test-faults test-stories test-ledger test-slurm test-xrootd
.PHONY: test-board test-parquet pictures bench docs lint format lock clean

help: ## list what there is to make; a bare `make` does it too
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-14s %s\n", $$1, $$2}' $(firstword $(MAKEFILE_LIST))

# The environment comes from the lock file alone: exact versions, checked against their hashes.
$(VENV): requirements.lock pyproject.toml
	@$(PYTHON) -c '$(SUITED)' 2>/dev/null || { echo "HalfPipe needs Python 3.11 to 3.13 with venv. $(PYTHON) is" \
	  "$$($(PYTHON) --version 2>&1 | tail -1). Name another one: make .venv PYTHON=/path/to/python3.12" \
	  "(docs/operations.md says how to get one)" >&2; exit 1; }
	@echo "installing what requirements.lock names into $(VENV): some 100 packages, a minute or two"
	@$(PYTHON) -m venv --clear $(VENV)
	@$(PIP) --progress-bar off --require-hashes -r requirements.lock | $(HOW_FAR)
	@$(PIP) --quiet --no-deps --no-build-isolation -e .
	@$(BIN)/python -m compileall -q src
	@touch $(VENV)

what-demo-does:
	@echo "SIMULATED: a downlink is made in $(DEMO), decoded, merged, and handed off to a stage there"

$(DEMO)/profile.v9+.yaml: | what-demo-does $(VENV)
	@$(BIN)/python scripts/simulate.py --out $(DEMO) --seed 1 --downlinks 230401001

demo: what-demo-does $(VENV) $(DEMO)/profile.v9+.yaml ## simulate a downlink and process it to its receipt
	@$(BIN)/snakemake dl=230401001 --profile $(DEMO)

test: $(VENV) ## what every change must pass; a minute or two
	$(PYTEST) -n auto --dist worksteal

test-another-day: $(VENV) ## a short pass of them in 40 days in Kiritimati; root has libfaketime installed if need be
	$(BIN)/python -m tests.support.servers clock
	umask 077; TZ=Pacific/Kiritimati $(OTHER_CLOCK) 40d $(BIN)/python -m pytest -n auto $(OF_DAYS)

test-workflow: $(VENV) ## commands as they are typed, killed, side by side, on bad input
	$(PYTEST) -n auto -m "workflow and not long"

golden: $(VENV) ## all golden cases, and each with the commands as they are typed
	$(PYTEST) -n auto -m "workflow or not workflow" tests/contract/test_golden.py

histories: $(VENV) ## 20,000 random delivery histories against the slow model
	$(PYTEST) -m long tests/contract/test_histories.py

test-faults: $(VENV) ## harm to every rule, heads killed and stopped, backups put back
	$(PYTEST) -n 2 -m faults tests/faults

test-stories: $(VENV) ## 1,000 random stories through the whole workflow, each with books of its own; half an hour
	$(PYTEST) -n 2 -m "stories or not stories" tests/faults/test_stories.py

test-ledger: $(VENV) ## the ledger on a private PostgreSQL, which root has installed if need be
	$(BIN)/python -m tests.support.servers postgresql
	$(PYTEST) -n 2 -m postgresql tests/site

test-xrootd: $(VENV) ## level-0 from a private XRootD server, which root has installed if need be
	$(BIN)/python -m tests.support.servers xrootd
	$(PYTEST) -n 2 -m xrootd tests/site

test-slurm: $(VENV) ## on a private Slurm, which root has installed if need be; HALFPIPE_SLURM=site: the one here
	@test "$$HALFPIPE_SLURM" = site || $(BIN)/python -m tests.support.servers slurm
	$(PYTEST) -n 2 -m "slurm and not long" tests/site

# Beside the environment, because pandas, and so each start of Snakemake, imports the pyarrow that it finds there.
build/parquet: requirements-parquet.lock $(VENV)
	@$(PIP) --quiet --require-hashes --upgrade --target $@ -r $<
	@touch $@

test-parquet: build/parquet ## tables as Parquet files, with pyarrow
	PYTHONPATH=build/parquet $(PYTEST) -m parquet tests/unit/tables

pictures: $(VENV) ## the pictures of docs/pictures.md
	$(BIN)/python -m tests.support.gallery docs/pictures

test-board: $(VENV) ## the board in a real browser, which root has installed if need be
	$(BIN)/python -m tests.support.servers browser
	$(PYTEST) -m browser tests/site

bench: $(VENV) ## what each step costs beside cp; on a machine that does nothing else
	$(BIN)/python -m benchmarks

docs: $(VENV) ## pages of all documents in build/docs, offline; a warning or a link that leads nowhere is an error
	$(BIN)/sphinx-build -q -W --keep-going -c docs . build/docs
	@! grep -rlE '<(script|img|link|iframe)[^>]*(src|href)="(https?:)?//' build/docs --include='*.html'

lint: $(VENV) ## ruff, snakefmt, snakemake --lint and mypy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/snakefmt --check Snakefile workflow
	$(BIN)/snakemake --lint
	$(BIN)/mypy

format: $(VENV) ## put the layout right where lint complains of it
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/snakefmt Snakefile workflow

LOCKED = uv pip compile --quiet --universal --generate-hashes --no-header --python-version 3.11
lock: ## renew the lock files after a change of dependencies; needs uv
	$(LOCKED) --group dev -o requirements.lock pyproject.toml
	echo pyarrow | $(LOCKED) -o requirements-parquet.lock -

clean: ## all that is made here, but for the environment
	rm -rf $(DEMO) build work stage .snakemake .hypothesis .mypy_cache .ruff_cache

# All targets run in a clone, on a machine with python3, python3-venv, bash, make and git.
SHELL = bash
.SHELLFLAGS = -o pipefail -c
PYTHON ?= python3
VENV = .venv
DEV = $(VENV)/.dev
BIN = $(VENV)/bin
DEMO = demo
# Tests start hundreds of programs, and without compiled modules each would compile them again.
unexport PYTHONDONTWRITEBYTECODE
PIP = $(BIN)/python -m pip install --disable-pip-version-check
# CLOCK=40d sets another clock for the tests (tests/support/clock); TZ, LANG and the umask are the caller's.
OTHER_CLOCK = PYTHONPATH=$(CURDIR)/tests/support/clock TEST_CLOCK=
PYTEST = $(if $(CLOCK),$(OTHER_CLOCK)$(CLOCK)) $(BIN)/python -m pytest

# The fast tests among those that could depend on the day, the time zone or the umask.
OF_DAYS = $(addprefix tests/unit/,ledger cli/test_verb_acts.py cli/test_verb_show.py cli/test_verb_status.py) \
  $(addprefix tests/unit/status/test_,failed_jobs.py site_causes.py) \
  tests/unit/pages/test_board_pages.py \
  $(addprefix tests/unit/operate/test_,alarms.py cleanup.py publish.py) \
  $(addprefix tests/unit/tables/test_,frames.py site_frames.py) \
  $(addprefix tests/unit/notify/test_,submit.py handoff_causes.py) \
  tests/contract/test_accounts.py tests/contract/test_working_directory.py

# Whether a Python can make the environment. An old Python must be able to read this line.
SUITED = import sys, ssl, venv, ensurepip; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))

# Shows pip's progress.
HOW_FAR = awk '/^Collecting/ && ++n % 20 == 0 {print "  " n " downloaded"} \
  /^Installing/ {print "  installing"} {fflush()}'

.PHONY: help demo what-demo-does test test-another-day test-workflow golden histories test-faults test-stories test-ledger test-slurm test-xrootd
.PHONY: test-board test-parquet test-without-switchover pictures bench docs lint format lock clean

help: ## list the targets, as does `make` alone
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-17s %s\n", $$1, $$2}' $(firstword $(MAKEFILE_LIST))

# The environment comes only from the lock files: exact versions, checked by their hashes. This is what a site needs.
$(VENV): requirements.lock pyproject.toml
	@$(PYTHON) -c '$(SUITED)' 2>/dev/null || { echo "HalfPipe needs Python 3.11 to 3.13 with venv. $(PYTHON) is" \
	  "$$($(PYTHON) --version 2>&1 | tail -1). Choose another: make .venv PYTHON=/path/to/python3.12" \
	  "(docs/operations.md explains how to get one)" >&2; exit 1; }
	@echo "installing about 75 packages from requirements.lock into $(VENV), which takes a minute"
	@$(PYTHON) -m venv --clear $(VENV)
	@$(PIP) --progress-bar off --require-hashes -r requirements.lock | $(HOW_FAR)
	@$(PIP) --quiet --no-deps --no-build-isolation -e .
	@$(BIN)/python -m compileall -q src
	@touch $(VENV)

# What tests, documents and lint need besides. A new $(VENV) does not have it.
$(DEV): requirements.lock requirements-dev.lock pyproject.toml | $(VENV)
	@echo "installing about 90 packages more from requirements-dev.lock"
	@$(PIP) --progress-bar off --require-hashes -r requirements-dev.lock | $(HOW_FAR)
	@touch $@

what-demo-does:
	@echo "SIMULATED: in $(DEMO), a downlink is made, decoded, merged, and handed off"

$(DEMO)/profile.v9+.yaml: | what-demo-does $(VENV)
	@$(BIN)/python scripts/simulate.py --out $(DEMO) --seed 1 --downlinks 230401001

demo: what-demo-does $(VENV) $(DEMO)/profile.v9+.yaml ## simulate a downlink and process it to its receipt
	@$(BIN)/snakemake dl=230401001 --profile $(DEMO)

test: $(DEV) ## the fast tests, which every change must pass; a minute or two
	$(PYTEST) -n auto --dist worksteal

test-another-day: $(DEV) ## some of them 40 days from now in Kiritimati
	umask 077; TZ=Pacific/Kiritimati $(OTHER_CLOCK)40d $(BIN)/python -m pytest -n auto $(OF_DAYS)

test-workflow: $(DEV) ## whole commands: as typed, killed, in parallel, on bad input
	$(PYTEST) -n auto -m "workflow and not long"

golden: $(DEV) ## all golden cases, also with whole commands
	$(PYTEST) -n auto -m "workflow or not workflow" tests/contract/test_golden.py

histories: $(DEV) ## 20,000 random delivery histories, compared with the slow model
	$(PYTEST) -m long -k histories

test-faults: $(DEV) ## harm to every rule, killed and stopped heads, restored backups
	$(PYTEST) -n 2 -m faults tests/faults

# In a clone of the last commit, with hard links to the environment's files, in which the project itself is installed anew.
WITHOUT = build/without-switchover
test-without-switchover: $(DEV) ## lint, docs and tests without what only the switch-over from the legacy needs
	rm -rf $(WITHOUT)
	git clone --quiet . $(WITHOUT)
	cp -al $(VENV) $(WITHOUT)/.venv
	cd $(WITHOUT) && rm -r src/halfpipe_switchover tests/switchover docs/switch-over benchmarks/switchover.py
	cd $(WITHOUT) && sed -i '/halfpipe_switchover/d' pyproject.toml && sed -i '/switch-over\//d' docs/index.md
	cd $(WITHOUT)/.venv/bin && grep -lI '^#!.*/python' * | xargs sed -i "1s|^#!.*/python.*|#!$$PWD/python|"
	cd $(WITHOUT) && .venv/bin/python -m pip install --quiet --no-deps --no-build-isolation -e . && touch .venv .venv/.dev
	$(MAKE) -C $(WITHOUT) lint docs test

test-stories: $(DEV) ## 1,000 random stories of the whole workflow, each with its own books; 15 minutes
	$(PYTEST) -n 2 -m "stories or not stories" tests/faults/test_stories.py

test-ledger: $(DEV) ## the ledger on a private PostgreSQL; as root, installs it if missing
	$(BIN)/python -m tests.support.servers postgresql
	$(PYTEST) -n 2 -m postgresql

test-xrootd: $(DEV) ## level-0 from a private XRootD server; as root, installs it if missing
	$(BIN)/python -m tests.support.servers xrootd
	$(PYTEST) -n 2 -m xrootd tests/site

test-slurm: $(DEV) ## on a private Slurm; as root, installs it if missing. HALFPIPE_SLURM=site: on this site's Slurm
	@test "$$HALFPIPE_SLURM" = site || $(BIN)/python -m tests.support.servers slurm
	$(PYTEST) -n 2 -m "slurm and not long" tests/site

# Not in the environment, because pandas, and so each start of Snakemake, would import pyarrow.
build/parquet: requirements-parquet.lock $(VENV)
	@$(PIP) --quiet --require-hashes --upgrade --target $@ -r $<
	@touch $@

test-parquet: build/parquet $(DEV) ## tables as Parquet files, with pyarrow
	PYTHONPATH=build/parquet $(PYTEST) -m parquet tests/unit/tables

pictures: $(DEV) ## make the pictures of docs/pictures.md
	$(BIN)/python -m tests.support.gallery docs/pictures

test-board: $(DEV) ## the board in a real browser; as root, installs it if missing
	$(BIN)/python -m tests.support.servers browser
	$(PYTEST) -m browser tests/site

bench: $(DEV) ## the cost of each step, compared with cp; on an idle machine
	$(BIN)/python -m benchmarks

docs: $(DEV) ## all documents as pages in build/docs, offline; warnings and broken links are errors
	$(BIN)/sphinx-build -q -W --keep-going -c docs . build/docs
	@! grep -rlE '<(script|img|link|iframe)[^>]*(src|href)="(https?:)?//' build/docs --include='*.html'

lint: $(DEV) ## ruff, snakefmt, snakemake --lint and mypy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/snakefmt --check Snakefile workflow
	$(BIN)/snakemake --lint
	$(BIN)/mypy

format: $(DEV) ## correct the layout where lint complains
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/snakefmt Snakefile workflow

LOCKED = uv pip compile --quiet --universal --generate-hashes --no-header --python-version 3.11
lock: ## renew the lock files after a change of dependencies; needs uv
	$(LOCKED) --extra postgresql --group build -o requirements.lock pyproject.toml
	$(LOCKED) --group dev -c requirements.lock -o requirements-dev.lock
	echo pyarrow | $(LOCKED) -o requirements-parquet.lock -

clean: ## remove everything made here except the environment
	rm -rf $(DEMO) build work stage .snakemake .hypothesis .mypy_cache .ruff_cache

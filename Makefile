# Everything here runs from a clone on a machine that has python3, python3-venv, make and git.
PYTHON ?= python3
VENV = .venv
BIN = $(VENV)/bin

.PHONY: demo test lint lock golden histories clean

# The environment comes from the lock file alone: exact versions, checked against their hashes.
$(VENV): requirements.lock pyproject.toml
	$(PYTHON) -m venv --clear $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $(VENV)

lock: # renew requirements.lock after a change of dependencies
	uv pip compile --quiet --universal --generate-hashes --no-header --python-version 3.11 \
	  --group dev -o requirements.lock pyproject.toml

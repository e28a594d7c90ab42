"""One downlink as an operator gives the commands: from a clean shell, with a profile that names everything."""

import json
import os
import sys
from pathlib import Path

import pytest

from tests.support.in_process import ROOT
from tests.support.level1 import CLIENT, VARIABLES
from tests.support.workflow import SNAKEMAKE, Ended, run

DL = "230401001"


@pytest.fixture
def profile(tmp_path: Path) -> Path:
    """The profile of a simulated site, which is its directory."""
    home = tmp_path / "simulated"
    program = [sys.executable, str(ROOT / "scripts" / "simulate.py"), "--out", str(home)]
    run([*program, "--events", "900", "--downlinks", DL]).good()
    return home


def type_(profile: Path, *words: str) -> Ended:
    """Give a command where only the profile says which site is meant."""
    others = [f"--unset={name}" for name in os.environ if name.startswith(("HALFPIPE", "SNAKEMAKE"))]
    return run(["env", *others, f"SNAKEMAKE_PROFILE={profile}", *words])


@pytest.mark.workflow
def test_one_downlink_to_its_receipt_and_to_its_submission(profile: Path) -> None:
    target, submission = f"dl={DL}", f"submit={DL}"
    truth = json.loads((profile / "truth.json").read_text())["carried"][DL]
    snakemake, halfpipe = [str(SNAKEMAKE)], [sys.executable, "-m", "halfpipe"]
    listed = type_(profile, *snakemake, "-n", target).good()
    assert type_(profile, *snakemake, target).good().jobs == listed.jobs
    assert "Nothing to be done" in type_(profile, *snakemake, target).good().said
    receipt = json.loads((profile / "work" / target).read_text())
    assert {run["run"]: run["delivered"] + run["orphans"] for run in receipt["runs"]} == {
        name: len(events) for name, events in truth.items()
    }
    type_(profile, *halfpipe, "status", "--check", DL).good()

    with (profile / "config.yaml").open("a") as file:
        stream = f"{CLIENT} --streams {profile}/streams createStream -S {{dl}} {VARIABLES} L1Proc"
        file.write(f"submit: {{automatic: true, command: {json.dumps(stream)}}}\n")
    done = type_(profile, *snakemake, submission).good()
    assert {job.rule for job in done.jobs} == {"ledger", "submit"}
    (created,) = map(json.loads, (profile / "streams").read_text().splitlines())
    assert created["variables"] == {"DOWNLINK_ID": DL, "DOWNLINK_RAWDIR": str(profile / "stage" / DL)}
    assert type_(profile, *snakemake).good().jobs == frozenset(), "nothing is outstanding"
    assert "\n0 differences between " in type_(profile, *halfpipe, "ledger", "check").good().said

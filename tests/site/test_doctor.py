"""The doctor on real servers: a Slurm, a ledger in PostgreSQL, an XRootD server."""

import json
import os
import re
import runpy
import secrets
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from halfpipe import paths
from tests.support.in_process import ROOT
from tests.support.ledger_files import Database
from tests.support.private_postgresql import PrivatePostgresql
from tests.support.private_slurm import PrivateSlurm
from tests.support.private_xrootd import private_xrootd
from tests.support.verbs import COMMAND

DOCTOR = runpy.run_path(str(ROOT / "profiles" / "s3df" / "doctor.sh"))
RESOURCES = {"slurm_account": "fermi:l1@milano", "slurm_partition": "milano"}
PROFILE: dict[str, Any] = {"executor": "slurm", "default-resources": RESOURCES}


def found(probe: str, config: dict[str, Any] | None = None, profile: str = "s3df") -> list[dict[str, str]]:
    """Return the findings of one probe, for this config and a shipped profile."""
    content = yaml.safe_load((ROOT / "profiles" / profile / "profile.v9+.yaml").read_text())
    site = DOCTOR["Site"](config or {}, content, {}, DOCTOR["NAMES"], str(ROOT), quiet=True)
    return list(DOCTOR[probe](site))


@pytest.fixture
def slurm(daemons: PrivateSlurm, monkeypatch: pytest.MonkeyPatch) -> PrivateSlurm:
    """Return the private Slurm, which the commands of this test use."""
    for name, value in daemons.env.items():
        monkeypatch.setenv(name, value)
    return daemons


@pytest.mark.slurm
def test_slurm_accepts_the_account_of_the_remedy(slurm: PrivateSlurm) -> None:
    """sbatch accepts the account of the profile, or the one of the remedy."""
    first, *_ = found("account")
    assert first["code"] in {"account", "account-spelling"}
    written = re.search('slurm_account: "(.*?)"', first["do"])
    account = written[1] if written else "fermi:L1"
    assert slurm.works("sbatch", "--test-only", "-A", account, "-p", "milano", "--wrap=true")
    assert [one["verdict"] for one in found("account") if one["code"] == "partition-nodes"] == ["good"]
    assert [one for one in found("limits") if one["verdict"] == "problem"] == []


@pytest.mark.slurm
def test_a_missing_partition(slurm: PrivateSlurm) -> None:
    profile = PROFILE | {"default-resources": RESOURCES | {"slurm_partition": "x"}}
    site = DOCTOR["Site"]({}, profile, {}, DOCTOR["NAMES"], str(ROOT), quiet=True)
    codes = [one["code"] for one in DOCTOR["account"](site) if one["verdict"] == "problem"]
    assert codes == ["partition"]


@pytest.mark.slurm
def test_the_probe_on_a_slurm(slurm: PrivateSlurm, tmp_path: Path) -> None:
    """On a Slurm with one node both sides of the probe run on one host."""
    for name in ("work", "stage", "retdefs"):
        (tmp_path / name).mkdir()
    config = {"paths": {name: str(tmp_path / name) for name in ("work", "stage")}}
    config["paths"]["retdef"] = [str(tmp_path / "retdefs")]  # type: ignore[assignment]
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config))
    profile = PROFILE | {"configfile": str(tmp_path / "config.yaml")}
    (tmp_path / "profile.v9+.yaml").write_text(yaml.safe_dump(profile))
    words = [*COMMAND, "doctor", "--probe", "--format", "json", "--profile", str(tmp_path)]
    ended = subprocess.run(words, capture_output=True, text=True, check=False, env=os.environ | slurm.env)
    assert ended.returncode == 1, ended.stderr
    verdicts = {one["code"]: one["verdict"] for one in json.loads(ended.stdout)["findings"]}
    expected = {"two-hosts": "unknown", "clock": "good", "rename": "good", "link": "good", "lease": "good"}
    assert expected.items() <= verdicts.items(), ended.stdout
    assert not list((tmp_path / "work").glob(paths.probe("*")))
    assert slurm.run("squeue", "-h", "--name=halfpipe-doctor") == ""


@pytest.mark.postgresql
def test_the_ledger_as_level_1_asks_it(server: PrivatePostgresql) -> None:
    """The ledger has no tables, is empty, has a run, has another password, and is down."""
    url = server.make_database(f"ledger_{secrets.token_hex(4)}")
    config = {"ledger": {"url": url}}
    (without,) = found("ledger", config)
    assert (without["verdict"], "glastops_acqsummary" in without["seen"]) == ("problem", True)
    database = Database(url)
    database.ledger().write(lambda _: None)
    (empty,) = found("ledger", config)
    assert empty["verdict"] == "unknown"
    database.by_others(
        "INSERT INTO glastops_acqsummary (scid, startedat, type, status, ndgms, nevts, dgmutc0, dgmutc1, hwkey, swkey, "
        "moot_key, moot_alias) VALUES (77, 741234567, 'LPA', 'Complete', 1, 1, now(), now(), 1, 1, 2959, 'nomSciOps')"
    )
    (row,) = found("ledger", config)
    assert (row["verdict"], "741234567|Complete|2959|nomSciOps" in row["seen"]) == ("good", True)
    (refused,) = found("ledger", {"ledger": {"url": re.sub("passfile=[^&]*", "passfile=/dev/null", url)}})
    assert refused["verdict"] == "problem"
    (absent,) = found("ledger", {"ledger": {"url": "postgresql+psycopg://halfpipe@127.0.0.1:1/halfpipe"}})
    assert (absent["verdict"], "refused" in absent["seen"]) == ("problem", True)


@pytest.mark.xrootd
def test_the_copy_of_level_0(open_to_all: Path) -> None:
    with private_xrootd(open_to_all) as server:
        config = {
            "level0": {"fetch": f"python scripts/xrootd_hour.py {server.url} {{hour}} {{apids}} {{out}}"}
        }
        up = {}
        for state in ("down", "up"):
            if state == "up":
                server.start()
            up[state] = {one["code"]: one["verdict"] for one in found("data", config)}["level0-copy"]
    assert up == {"down": "problem", "up": "good"}

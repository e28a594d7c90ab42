"""The doctor on real servers: a Slurm, a ledger in PostgreSQL, an XRootD server."""

import json
import os
import re
import runpy
import secrets
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from halfpipe import paths
from tests.support.in_process import ROOT
from tests.support.ledger_files import Database
from tests.support.private_postgresql import PrivatePostgresql
from tests.support.private_slurm import (
    ACCOUNT,
    HISTORY_ACCOUNT,
    NORMAL,
    PARTITION,
    PREEMPTABLE,
    PrivateSlurm,
    full_account,
)
from tests.support.private_xrootd import private_xrootd
from tests.support.servers import wait_for
from tests.support.verbs import COMMAND

DOCTOR = runpy.run_path(str(ROOT / "profiles" / "s3df" / "doctor.sh"))
RESOURCES = {"slurm_account": "fermi:l1@milano", "slurm_partition": "milano"}
PROFILE: dict[str, Any] = {"executor": "slurm", "default-resources": RESOURCES}


def shipped(**resources: str) -> dict[str, Any]:
    """Return the content of the shipped profile for S3DF, with other default resources."""
    content: dict[str, Any] = yaml.safe_load((ROOT / "profiles" / "s3df" / "profile.v9+.yaml").read_text())
    content["default-resources"] |= resources
    return content


def batch(**resources: str) -> dict[str, Any]:
    """Return the shipped profile with other resources for history."""
    content = shipped()
    content["set-resources"]["batch"] |= resources
    return content


def found(
    probe: str, config: dict[str, Any] | None = None, profile: dict[str, Any] | None = None
) -> list[dict[str, str]]:
    """Return the findings of one probe, for this config and profile."""
    site = DOCTOR["Site"](config or {}, profile or shipped(), {}, DOCTOR["NAMES"], str(ROOT), quiet=True)
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
    (first,) = [one for one in found("account") if one["code"] in {"account", "account-spelling"}]
    written = re.search('slurm_account: "(.*?)"', first["do"])
    account = written[1] if written else "fermi:L1"
    assert slurm.works("sbatch", "--test-only", "-A", account, "-p", "milano", "--wrap=true")
    assert [one["verdict"] for one in found("account") if one["code"] == "partition-nodes"] == ["good"]
    assert [one for one in found("limits") if one["verdict"] == "problem"] == []


Act = Callable[[PrivateSlurm], object]


def limited(what: str, name: str, limit: str, figure: int) -> tuple[Act, Act]:
    """Set a limit of an account, a user or a QOS, and remove it."""

    def set_to(figure: int) -> Act:
        return lambda slurm: slurm.modify(what, name, "set", f"{limit}={figure}")

    return set_to(figure), set_to(-1)


def partition(setting: str, usual: str) -> tuple[Act, Act]:
    """Change a setting of the partition, and change it back."""

    def set_to(value: str) -> Act:
        return lambda slurm: slurm.run("scontrol", "update", f"PartitionName={PARTITION}", value)

    return set_to(setting), set_to(usual)


def stopped(daemon: str) -> tuple[Act, Act]:
    """Stop a daemon, and start it again."""
    return lambda slurm: slurm.stop_daemon(daemon), lambda slurm: slurm.start_daemon(daemon)


NIGHT, HISTORY = full_account(ACCOUNT), full_account(HISTORY_ACCOUNT)
# What is wrong in Slurm: the codes that the doctor finds, how Slurm becomes so, and how it becomes good again.
SPOILED: dict[str, tuple[str, tuple[Act, Act]]] = {
    "slurmctld is down": ("slurm-away", stopped("slurmctld")),
    "munge is down": ("munge limits", stopped("munged")),
    "slurmdbd is down": ("account-list limits", stopped("slurmdbd")),
    "the partition is draining": ("partition-down", partition("State=DRAIN", "State=UP")),
    "the partition is inactive": ("partition-down", partition("State=INACTIVE", "State=UP")),
    "the partition is down": ("partition-down", partition("State=DOWN", "State=UP")),
    "all nodes are drained": ("partition-nodes", (PrivateSlurm.drain, PrivateSlurm.resume)),
    "all nodes are down": ("partition-nodes", (PrivateSlurm.fail_node, PrivateSlurm.resume)),
    "the partition is for others": (
        "partition-closed",
        partition(f"AllowAccounts={HISTORY}", "AllowAccounts=ALL"),
    ),
    "the partition's jobs are short": ("job-long", partition("MaxTime=10", "MaxTime=600")),
    "Level-1 has no nodes": ("limits", limited("account", NIGHT, "GrpTRES=node", 0)),
    "Level-1 may submit nothing": ("limits", limited("account", NIGHT, "GrpSubmitJobs", 0)),
    "Level-1's jobs may have no core": ("limits", limited("account", NIGHT, "MaxTRES=cpu", 0)),
    "history has no nodes": ("limits", limited("account", HISTORY, "GrpTRES=node", 0)),
    "history may run no job": ("limits", limited("account", HISTORY, "GrpJobs", 0)),
    "the facility has no nodes": ("limits", limited("account", "root", "GrpTRES=node", 0)),
    "this user may run no job": ("limits", limited("user", "root", "MaxJobs", 0)),
    "Level-1's queue is short": ("limit-submit", limited("account", NIGHT, "MaxSubmitJobs", 20)),
    "history's QOS has no nodes": ("limits", limited("qos", PREEMPTABLE, "GrpTRES=node", 0)),
    "the usual QOS runs no job of a user": ("limits", limited("qos", NORMAL, "MaxJobsPerUser", 0)),
    "the usual QOS has a short queue": ("limit-submit", limited("qos", NORMAL, "MaxSubmitJobsPerUser", 9)),
    "the QOS denies the size of a job": (
        "limits",
        (
            lambda slurm: slurm.modify("qos", NORMAL, "set", "Flags=DenyOnLimit", "MaxTRESPerJob=cpu=2"),
            lambda slurm: slurm.modify("qos", NORMAL, "set", "Flags=-1", "MaxTRESPerJob=cpu=-1"),
        ),
    ),
}
# What is wrong in the profile.
MISTAKEN: dict[str, tuple[str, dict[str, Any]]] = {
    "no such partition": ("partition limits", shipped(slurm_partition="nowhere")),
    "no partition": ("account limits", shipped(slurm_partition="")),
    "the account is not ours": ("account-refused", shipped(slurm_account="nonsense")),
    "the account is spelled otherwise": ("account-spelling", shipped(slurm_account="fermi:l1@elsewhere")),
    "more memory than a node has": ("job-refused", shipped(mem_mb="8000 * attempt")),
    "the account of history is not ours": ("account-refused", batch(slurm_account="nonsense")),
    "the QOS of history is not ours": ("qos", batch(qos="gold")),
    "history in Level-1's account": ("qos", batch(slurm_account="fermi:L1", qos="")),
}


def wrong(profile: dict[str, Any] | None = None) -> set[str]:
    """Return the codes of what the doctor finds wrong in Slurm."""
    findings = [*found("account", profile=profile), *found("limits", profile=profile)]
    assert all("***" not in one["seen"] for one in findings)
    bad = [one for one in findings if one["verdict"] != "good"]
    assert all(one["do"] for one in bad)
    return {one["code"] for one in bad}


@pytest.mark.slurm
@pytest.mark.parametrize("name", SPOILED)
def test_what_is_wrong_in_slurm_is_found_by_its_name(name: str, slurm: PrivateSlurm) -> None:
    codes, (spoil, mend) = SPOILED[name]
    spoil(slurm)
    try:
        assert wrong() == set(codes.split())
    finally:
        mend(slurm)
    wait_for("the node", lambda: slurm.node_state() == "idle")
    assert wrong() == set()


@pytest.mark.slurm
def test_a_partition_for_the_facility_takes_its_accounts(slurm: PrivateSlurm) -> None:
    spoil, mend = partition("AllowAccounts=root", "AllowAccounts=ALL")  # the parent of the accounts
    spoil(slurm)
    try:
        assert wrong() == set()
    finally:
        mend(slurm)


@pytest.mark.slurm
@pytest.mark.parametrize("name", MISTAKEN)
def test_what_is_wrong_in_the_profile_is_found_by_its_name(name: str, slurm: PrivateSlurm) -> None:
    codes, profile = MISTAKEN[name]
    assert wrong(profile) == set(codes.split())


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

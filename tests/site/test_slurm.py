"""The workflow on a Slurm, with the profile that operators use (`make test-slurm`).

The default is a private Slurm of one node. ``HALFPIPE_SLURM=site`` uses the Slurm of the site: the partition and the
account of the profile must exist, the temporary directory must be shared (``--basetemp``), and tests that stop daemons
are skipped.
``HALFPIPE_PROFILE`` names another profile than ``s3df``.
"""

import contextlib
import ctypes
import errno
import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

import pytest
import yaml

from halfpipe import paths
from halfpipe.causes import Verdict
from halfpipe.ids import DownlinkId
from halfpipe.process.failure_record import Failure
from halfpipe.status.receipt_check import Check
from halfpipe_simulator.scenario import Scenario
from snakemake_executor_plugin_halfpipe import REFUSALS, UNKNOWN, key_for
from tests.support.golden_cases import build, read_case
from tests.support.harness import event_records
from tests.support.in_process import ROOT
from tests.support.leases import leases
from tests.support.private_slurm import (
    ACCOUNT,
    HISTORY_ACCOUNT,
    NORMAL,
    PARTITION,
    PREEMPTABLE,
    PrivateSlurm,
    full_account,
)
from tests.support.servers import command_lines, wait_for
from tests.support.verbs import COMMAND
from tests.support.workflow import SNAKEMAKE, Ended, Running, Site, run

pytestmark = pytest.mark.slurm

PROFILE = os.environ.get("HALFPIPE_PROFILE", "s3df")
CASE = read_case("complete_multichunk")
DL = CASE.downlinks[0]
CHUNKS = 6
Tree = Mapping[str, bytes]
EVERY = [f"2304{day:02d}{number:03d}" for day in range(1, 21) for number in range(1, 11)]
MONTH = [f"2304{day:02d}00{number}" for day in (1, 2, 3, 4) for number in (1, 2)]
# Snakemake with an executor that waits less. The jobs are as usual.
HURRIED = """
import snakemake_executor_plugin_halfpipe as executor
from snakemake.cli import main
executor.AGAIN_SECONDS, executor.UNKNOWN_SECONDS = {}, {}
main()
"""
# Slurm's error numbers that pass, and those that do not, among all that sbatch may meet (slurm_errno.h).
TEMPORARY = {
    1001, 1002, 1003, 1007, *range(1800, 1806), 2007, 2015, 2016, 2019, 2027, 2037, 2068, 2070, 2074, 2101, 2105, 2118,
    2131, 2177, 5003, 5004, 5005, 7000,
}  # fmt: skip
FINAL = {
    2000, 2001, 2002, 2003, 2005, 2006, 2014, 2029, 2044, 2045, 2050, 2051, 2052, 2053, 2066, 2069, 2072, 2123, 2167,
    8000,
}  # fmt: skip
SYSTEM = {errno.EAGAIN, errno.ECONNREFUSED, errno.ECONNRESET, errno.ETIMEDOUT, errno.EHOSTUNREACH}
SBATCH_WAITS = {1804, 1805, 2007, 2016}  # sbatch itself tries again for minutes


@dataclass
class SlurmSite(Site):
    """A site whose jobs go to Slurm. Its config file has a relative path, as operators write it."""

    env: Mapping[str, str] = field(default_factory=dict)
    profile: str = PROFILE
    seconds: tuple[int, int] | None = (
        None  # of the executor: between attempts, and how long an unknown refusal may last
    )

    def command(self, *arguments: str) -> list[str]:
        configfile = os.path.relpath(self.configfile, ROOT)
        snakemake = (
            [sys.executable, "-c", HURRIED.format(*self.seconds)] if self.seconds else [str(SNAKEMAKE)]
        )
        return [*snakemake, "--profile", self.profile, *arguments, "--configfile", configfile]

    def snakemake(self, *arguments: str) -> Ended:
        return run(self.command(*arguments), self.env)

    @contextlib.contextmanager
    def running(self, *arguments: str) -> Iterator[Running]:
        """Start a command, and end it with the test."""
        running = Running(self.command(*arguments), self.home, self.env)
        try:
            yield running
        finally:
            running.process.terminate()
            running.process.wait(120)

    def change_profile(self, change: Callable[[dict[str, object]], None]) -> None:
        """Use a profile of the test's own: the site's with a change."""
        place = self.home / "profile"
        place.mkdir(exist_ok=True)
        policy = yaml.safe_load((ROOT / "profiles" / "s3df" / "profile.v9+.yaml").read_text())
        policy["configfile"] = str(self.configfile)
        change(policy)
        (place / "profile.v9+.yaml").write_text(yaml.safe_dump(policy))
        self.profile = str(place)

    def jobs(self) -> list[dict[str, str]]:
        """Return all submissions of this site, in order."""
        names = {"id": "JobID", "state": "State", "memory": "MinMemory", "limit": "TimeLimit"}
        names |= {"cores": "NumCPUs", "account": "Account", "partition": "Partition", "nice": "Nice"}
        names |= {"start": "StartTime", "log": "STDOUT"}
        shape = ",".join(f"{name}:|" for name in names.values())
        lines = run(["squeue", "-h", "--states=all", "-O", shape], self.env).said.splitlines()
        rows = [dict(zip(names, line.split("|"), strict=False)) for line in lines]
        mine = [row for row in rows if row.get("log", "").startswith(f"{self.work}/")]
        return sorted(mine, key=lambda row: int(row["id"]))

    def began(self) -> dict[str, list[datetime]]:
        """Return when each successful job began, for each of its attempts."""
        found: dict[str, list[datetime]] = {}
        for file in (self.work / paths.LOGS).glob("*/usage.jsonl"):
            for line in map(json.loads, file.read_text().splitlines()):
                found.setdefault(line["job"], []).append(datetime.fromisoformat(line["begun"]))
        return found

    def wait_for_decoders(self) -> None:
        logs = self.work / "logs" / DL
        wait_for("a decoder", lambda: any(logs.glob("decode_chunk-*.log")), 60)

    def check(self, expected: Tree, *states: str, killed: bool = False) -> None:
        """Check the tree and the states of all Slurm jobs, and that nothing is left."""
        assert content(self) == expected
        assert not states or [job["state"] for job in self.jobs()] == [*states]
        self.nothing_left(killed=killed)

    def nothing_left(self, *, killed: bool = False) -> None:
        """Check that no lease, scratch file or job is left.

        A `killed` process may leave a heartbeat, or a file under a temporary name of its own; cleanup removes both.
        """
        assert [name for name in leases(self.work) if not (killed and name.startswith("alive/"))] == []
        scratch = [*self.work.rglob(".*.part"), *self.stage.rglob(".halfpipe/*")]
        assert [path for path in scratch if not (killed and OWN_NAME.fullmatch(path.name))] == []
        assert not [job for job in self.jobs() if job["state"] in {"RUNNING", "PENDING"}]


# As `files.durable` names a file that its writer has no lease for.
OWN_NAME = re.compile(r"\..+\.[0-9a-f]{32}\.part")


def golden_site(home: Path, env: Mapping[str, str], *decoder: str) -> SlurmSite:
    """Return a site with the golden case, and a decoder with these options."""
    site = SlurmSite(home, env=env)
    build("complete_multichunk", site)
    if decoder:
        site.misbehave(CASE.directory / "in", *decoder)
    return site


def content(site: Site) -> dict[str, bytes]:
    """Return the tree of a site without what depends on the decoder's command: the command itself and seals."""
    command = str(site.config.get("decoder", {}).get("command")).encode()
    seal = re.compile(rb'\n "(sha256|previous|delivery|receipt|seal)": "[0-9a-f]{64}",')
    return {name: seal.sub(b"", data.replace(command, b"DECODER")) for name, data in site.tree().items()}


def local(site: Site) -> Site:
    """Return the same site, but its jobs run here."""
    return Site(site.home, site.config)


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Tree:
    """Return the tree that a local run makes of the golden case."""
    site = local(golden_site(tmp_path_factory.mktemp("local"), {}))
    site.process(DL)
    assert site.staged(DL) == CASE.steps[0].expected.files
    return content(site)


@pytest.fixture
def env(private: PrivateSlurm | None) -> Mapping[str, str]:
    """Return the environment in which Slurm's commands work."""
    return private.env if private else {}


def test_a_downlink_of_twelve_chunks_is_one_job_and_has_the_bytes_of_a_local_run(
    tmp_path: Path, env: Mapping[str, str]
) -> None:
    scenario = Scenario(seed=3, downlinks=["230401001"])
    scenario.lpa_run(events=3000, lost_datagrams=4)  # each gap begins another chunk
    scenario.lpa_run(events=2000, lost_datagrams=4, no_stop=True)
    simulation = scenario.write(tmp_path / "simulated")
    assert len(simulation.chunks) == 12
    sites = [Site(tmp_path / "local"), SlurmSite(tmp_path / "slurm", env=env)]
    for site in sites:
        site.configure(paths={"level0": str(simulation.level0)})
        site.add_retdefs(simulation.path / "downlinks", "230401001")
        site.process("230401001")
    here, there = sites
    assert isinstance(there, SlurmSite)
    assert content(there) == content(here)
    assert there.outstanding("230401001") == frozenset()
    (job,) = there.jobs()
    assert (job["state"], job["partition"], job["cores"]) == ("COMPLETED", PARTITION, "12")
    assert (job["memory"], job["limit"]) == ("48000M", "1:30:00")
    assert job["account"] in {full_account("fermi:L1"), "fermi:L1"}
    decoded = [times[0] for name, times in there.began().items() if name.startswith("decode_chunk")]
    assert len(decoded) == 12
    assert (max(decoded) - min(decoded)).total_seconds() < 5, "side by side"
    there.nothing_left()


def test_the_next_attempt_has_more_memory_and_decodes_nothing_again(
    tmp_path: Path, env: Mapping[str, str], undisturbed: Tree
) -> None:
    site = golden_site(tmp_path, env, "--hungry", "00001=900")
    memory = {"mem_mb": "150 * attempt ** 3"}
    given = {"decode_chunk": memory, "deliver_run": {**memory, "slot": 2}, "receipt": memory}
    site.change_profile(lambda policy: policy.update({"set-resources": given}))
    site.snakemake(f"dl={DL}").good()
    assert content(site) == undisturbed
    first, *_, last = site.jobs()
    assert first["state"] in {"OUT_OF_MEMORY", "FAILED", "CANCELLED"}
    assert (first["memory"], last["memory"], last["state"]) == ("900M", "7200M", "COMPLETED")
    times = site.began()
    assert {len(times[f"decode_chunk-0000{chunk}"]) for chunk in range(1, CHUNKS + 1)} == {1}
    site.nothing_left(killed=True)


def test_the_way_in_which_slurm_ended_a_job_is_recorded(tmp_path: Path, env: Mapping[str, str]) -> None:
    site = golden_site(tmp_path, env, "--slow", "00002=95")
    resources = ["decode_chunk:runtime=1", "deliver_run:runtime=0", "receipt:runtime=0"]
    assert site.snakemake(f"dl={DL}", "--retries", "0", "--set-resources", *resources).status == 1
    why = Failure.read(site.work / paths.log("decode_chunk", DL, "00002"))
    assert why is not None
    assert why.code == "time-limit"
    assert "--chunk 00002" in why.command
    told = local(site).told("status", DL)["downlinks"][0]["causes"]
    assert "time-limit" in {cause["code"] for cause in told}
    assert leases(site.work) == []


def test_bad_chunks_fail_alone(tmp_path: Path, env: Mapping[str, str]) -> None:
    bad = ["00001", "00003", "00005"]
    site = golden_site(tmp_path, env, *(f"--fault={DL}-{chunk}=exit3" for chunk in bad))
    # Two at a time, so that others begin after the first failure.
    ended = site.snakemake(f"dl={DL}", "--retries", "0", "--resources", "slot=2").bad()
    why = {log.stem: Failure.read(log) for log in (site.work / "logs" / DL).glob("decode_chunk-*.log")}
    assert {name: one.code for name, one in why.items() if one} == {
        f"decode_chunk-{chunk}": "decoder" for chunk in bad
    }
    made = {path.stem for path in (site.work / DL / "chunks").glob("*.json")}
    assert len(made) == CHUNKS - len(bad)
    assert ended.said.count("failed: ") == len(bad)
    assert leases(site.work) == []


def test_a_downlink_survives_daemons_that_are_down_and_a_drained_node(
    tmp_path: Path, daemons: PrivateSlurm, undisturbed: Tree
) -> None:
    site = golden_site(tmp_path, daemons.env, "--pause", "15")
    with site.running(f"dl={DL}") as running:
        site.wait_for_decoders()
        daemons.drain()
        time.sleep(3)
        assert [job["state"] for job in site.jobs()] == ["RUNNING"], "a drained node lets its jobs end"
        daemons.resume()
        daemons.stop_daemon("slurmctld")
        daemons.stop_daemon("slurmdbd")
        time.sleep(30)
        daemons.start_daemon("slurmdbd")
        daemons.start_daemon("slurmctld")
        running.ended().good()
    site.check(undisturbed, "COMPLETED")


# What makes Slurm refuse jobs for now: words of the refusal, the trouble, and its end.
TROUBLES: dict[str, tuple[Callable[[PrivateSlurm], object], Callable[[PrivateSlurm], object]]] = {
    "Unable to contact slurm controller": (
        lambda slurm: slurm.stop_daemon("slurmctld"),
        lambda slurm: slurm.start_daemon("slurmctld"),
    ),
    "Protocol authentication error": (
        lambda slurm: slurm.stop_daemon("munged"),
        lambda slurm: slurm.start_daemon("munged"),
    ),
    "AssocGrpSubmitJobsLimit": (
        lambda slurm: slurm.modify("account", full_account(ACCOUNT), "set", "GrpSubmitJobs=0"),
        lambda slurm: slurm.modify("account", full_account(ACCOUNT), "set", "GrpSubmitJobs=-1"),
    ),
    "Required partition not available": (
        lambda slurm: slurm.partition("DRAIN"),
        lambda slurm: slurm.partition("UP"),
    ),
    "System submissions disabled": (lambda slurm: slurm.refuse(2105), lambda slurm: slurm.refuse()),
}


@pytest.mark.parametrize("words", TROUBLES)
def test_a_submission_waits_while_slurm_refuses_it_for_now(
    words: str, tmp_path: Path, daemons: PrivateSlurm, undisturbed: Tree
) -> None:
    site = golden_site(tmp_path, daemons.env)
    site.seconds = (3, 3600)
    begin, end = TROUBLES[words]
    begin(daemons)
    with site.running(f"dl={DL}") as running:
        try:
            running.wait_for("two refusals", lambda: running.log.read_text().count(words) > 1, 90)
        finally:
            end(daemons)
        running.ended().good()
    assert "for 60 min at most" not in running.log.read_text()
    site.check(undisturbed, "COMPLETED")


def test_an_unknown_refusal_is_tried_again_for_some_time_and_then_ends_the_command(
    tmp_path: Path, daemons: PrivateSlurm
) -> None:
    """Here for 0.1 min, otherwise for an hour."""
    site = golden_site(tmp_path, daemons.env)
    site.seconds = (3, 6)
    daemons.refuse(2090)
    try:
        ended = site.snakemake(f"dl={DL}").bad("Slurm internal error")
    finally:
        daemons.refuse()
    assert ended.said.count("again in 3 s, for 0.1 min at most") == 2
    assert ended.said.count("Slurm refused the job") == 1
    why = Failure.read(site.work / paths.log("decode_chunk", DL, "00001"))
    assert why is not None
    assert why.code == "executor"
    site.nothing_left()


def test_every_refusal_of_slurm_has_one_class(daemons: PrivateSlurm) -> None:
    """By the texts that this Slurm has for its numbers, and by what sbatch prints when slurmctld answers with some."""
    (library,) = Path("/usr/lib").glob("*/slurm-wlm/libslurmfull.so")
    text_of = ctypes.CDLL(str(library)).slurm_strerror
    text_of.restype = ctypes.c_char_p
    texts = {number: text_of(number).decode() for number in range(1, 13000)}
    classes = {number: key_for(text) for number, text in texts.items()}
    temporary = {number for number, key in classes.items() if key is None}
    final = {number for number, key in classes.items() if key not in {None, UNKNOWN}}
    assert temporary - SYSTEM == TEMPORARY
    assert final == FINAL
    known = {text for text in REFUSALS for said in texts.values() if text in said}
    assert set(REFUSALS) - known == {"SubmitJob", "MaxJobCount limit reached", 'Try "sbatch --help"'}
    sbatch = ["sbatch", f"--account={ACCOUNT}", f"--partition={PARTITION}", "--wrap=true"]
    try:
        for number in sorted(TEMPORARY | FINAL | {2090, 3000}):
            if number not in SBATCH_WAITS:
                daemons.refuse(number)
                done = daemons.done(*sbatch)
                assert (done.returncode, key_for(done.stderr)) == (1, classes[number]), (number, done.stderr)
    finally:
        daemons.refuse()


@pytest.mark.parametrize("limit", ["MaxTRESPerJob=cpu={}", "MaxTRESPerUser=mem={}", "MaxWall={}"])
def test_a_size_that_the_qos_denies_is_a_final_refusal(
    limit: str, tmp_path: Path, daemons: PrivateSlurm
) -> None:
    site = golden_site(tmp_path, daemons.env)
    daemons.modify("qos", NORMAL, "set", "Flags=DenyOnLimit", limit.format(2))
    try:
        ended = site.snakemake(f"dl={DL}").bad("set-resources: mem_mb, runtime")
    finally:
        daemons.modify("qos", NORMAL, "set", "Flags=-1", limit.format(-1))
    assert ended.said.count("Slurm refused the job") == 1
    assert site.jobs() == []
    site.nothing_left()


@pytest.mark.parametrize(
    ("key", "value"), [("slurm_account", "nonsense"), ("slurm_partition", "nonsense"), ("qos", PREEMPTABLE)]
)
def test_a_final_refusal_of_slurm_ends_the_command_with_one_sentence(
    key: str, value: str, tmp_path: Path, daemons: PrivateSlurm
) -> None:
    site = golden_site(tmp_path, daemons.env)
    site.change_profile(lambda policy: policy["default-resources"].update({key: value}))  # type: ignore[attr-defined]
    begun = time.monotonic()
    ended = site.snakemake(f"dl={DL}").bad(f"default-resources: {key}")
    assert time.monotonic() - begun < 30
    assert ended.said.count("Slurm refused the job") == 1
    assert len(ended.said) < 3000
    assert site.jobs() == []
    site.nothing_left()


def test_a_job_whose_node_failed_is_submitted_again_also_on_the_only_node(
    tmp_path: Path, daemons: PrivateSlurm, undisturbed: Tree
) -> None:
    site = golden_site(tmp_path, daemons.env, "--pause", "8")
    with site.running(f"dl={DL}") as running:
        site.wait_for_decoders()
        try:
            daemons.fail_node()
            running.wait_for("another submission", lambda: len(site.jobs()) > 1, 120)
        finally:
            daemons.resume()
        running.ended().good()
    site.check(undisturbed, "NODE_FAIL", "COMPLETED", killed=True)


def test_a_cancelled_job_is_submitted_again(tmp_path: Path, daemons: PrivateSlurm, undisturbed: Tree) -> None:
    site = golden_site(tmp_path, daemons.env, "--pause", "8")
    with site.running(f"dl={DL}") as running:
        site.wait_for_decoders()
        (job,) = site.jobs()
        daemons.run("scancel", job["id"])
        running.ended().good()
    site.check(undisturbed, "CANCELLED", "COMPLETED", killed=True)


def test_a_preempted_job_is_submitted_again_with_the_same_memory(
    tmp_path: Path, daemons: PrivateSlurm, undisturbed: Tree
) -> None:
    site = golden_site(tmp_path, daemons.env, "--pause", "8")
    site.change_profile(
        lambda policy: policy["default-resources"].update(  # type: ignore[attr-defined]
            {"slurm_account": HISTORY_ACCOUNT, "qos": PREEMPTABLE}
        )
    )
    with site.running(f"dl={DL}", "--retries", "0") as running:
        site.wait_for_decoders()
        other = daemons.fill()
        try:
            wait_for("preemption", lambda: site.jobs()[0]["state"] == "PREEMPTED", 60)
            wait_for("another submission", lambda: len(site.jobs()) > 1, 120)
        finally:
            daemons.cancel(other)
        running.ended().good()
    site.check(undisturbed, "PREEMPTED", "COMPLETED", killed=True)
    assert [job["memory"] for job in site.jobs()] == ["24000M"] * 2


def test_a_downlink_survives_ten_kills_of_its_head(
    tmp_path: Path, daemons: PrivateSlurm, undisturbed: Tree
) -> None:
    site = golden_site(tmp_path, daemons.env, "--pause", "2")
    for moment in range(10):
        with site.running(f"dl={DL}") as running:
            running.wait_for("the head", lambda: "Job stats" in running.log.read_text(), 60)
            time.sleep(0.8 * moment)
            running.process.send_signal(signal.SIGKILL)
            running.process.wait()
        if site.has_receipt(DL):
            break
    wait_for("the jobs that were left", lambda: not daemons.run("squeue", "-h"), 120)
    site.snakemake(f"dl={DL}").good()
    site.check(undisturbed, killed=True)


@pytest.mark.parametrize("bad", ["", "230401003"])
def test_neighbors_have_the_bytes_of_single_commands_also_if_one_fails(
    bad: str, tmp_path: Path, daemons: PrivateSlurm
) -> None:
    neighbors = [f"23040100{number}" for number in range(1, 8)]
    scenario = Scenario(seed=5, downlinks=neighbors)
    for first in range(len(neighbors) - 1):
        scenario.lpa_run(events=300, parts=2, first=first, repeated_datagrams=1)
    site = SlurmSite(tmp_path / "slurm", env=daemons.env)
    site.simulate(scenario)
    for file in (site.retdefs / bad).glob("*.xml") if bad else ():
        file.write_text("not a RetDef")
    single = local(site).clone(tmp_path / "single")
    good = [dl for dl in neighbors if dl != bad]
    for dl in good:
        single.by_hand(dl)
    ended = site.snakemake(*(f"dl={dl}" for dl in neighbors), "--retries", "0")
    assert ended.status == (1 if bad else 0)
    there = content(site)
    there = {name: data for name, data in there.items() if not bad or f"/{bad}" not in name}
    assert there == content(single)
    site.nothing_left()


def month(
    home: Path, env: Mapping[str, str], batch: int, downlinks: Sequence[str] = MONTH, **change: object
) -> SlurmSite:
    """Return a site with runs over two neighbours, also across the ends of batches."""
    scenario = Scenario(seed=3, downlinks=downlinks)
    for first in range(len(downlinks) - 1):
        scenario.lci_run(events=20, parts=2, first=first, per_datagram=5)
    site = SlurmSite(home, env=env)
    site.simulate(scenario)
    site.configure(history={"batch": batch})
    site.work.mkdir()
    site.change_profile(lambda policy: policy["set-resources"]["batch"].update(change))  # type: ignore[index]
    return site


def process(site: SlurmSite) -> list[str]:
    return [*COMMAND, "process", "2023-04", "--profile", site.profile]


def test_a_batch_that_is_killed_has_the_bytes_of_single_commands(
    tmp_path: Path, daemons: PrivateSlurm
) -> None:
    site = month(tmp_path, daemons.env, len(MONTH))
    single = local(site).clone(tmp_path / "single")
    for dl in MONTH:
        single.by_hand(dl)
    running = Running(process(site), tmp_path, daemons.env)
    running.wait_for("a hand-off", lambda: any(site.work.glob("dl=*")), 240)
    daemons.run("scancel", site.jobs()[0]["id"])
    running.wait_for("the next attempt", lambda: len(site.jobs()) > 1, 240)
    running.process.kill()
    running.process.wait()
    for pid in [*command_lines("scripts/batch.py", str(site.home))][:1]:
        os.kill(pid, signal.SIGKILL)
    run(process(site), daemons.env).good()
    wait_for("an empty queue", lambda: not daemons.run("squeue", "-h"), 120)
    assert content(site) == content(single)
    assert {(job["nice"], job["cores"]) for job in site.jobs()} == {("1000", "4")}
    site.nothing_left(killed=True)


def test_a_new_downlink_runs_before_history_that_waits(
    tmp_path: Path, daemons: PrivateSlurm, undisturbed: Tree
) -> None:
    tonight = golden_site(tmp_path / "tonight", daemons.env)
    tonight.work.mkdir()
    tonight.change_profile(lambda _: None)
    site = month(tmp_path / "history", daemons.env, 2)
    other = daemons.fill()
    history = Running(process(site), tmp_path, daemons.env).process
    try:
        wait_for("history", lambda: len(site.jobs()) == len(MONTH) // 2, 120)
        night = Running([*COMMAND, "unattended", "--profile", tonight.profile], tmp_path, daemons.env).process
        wait_for("the night", lambda: len(tonight.jobs()) == 1, 120)
        daemons.cancel(other)
        assert night.wait(300) == 0
        assert history.wait(300) == 0
    finally:
        history.kill()
        history.wait()
    assert content(tonight) == undisturbed
    assert tonight.jobs()[0]["start"] <= min(job["start"] for job in site.jobs())


def test_status_names_an_account_that_may_use_no_node(
    tmp_path: Path, daemons: PrivateSlurm, undisturbed: Tree, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = golden_site(tmp_path, daemons.env)
    site.work.mkdir()
    site.change_profile(lambda _: None)
    daemons.limit(ACCOUNT, 0)
    words = [*COMMAND, "unattended", "--timeout-minutes", "0.5", "--profile", site.profile]
    turn = Running(words, tmp_path, daemons.env)
    try:
        wait_for("the job", lambda: bool(site.jobs()), 120)
        time.sleep(35)  # longer than the limit of the turn
        assert turn.process.poll() is None, "waiting in the queue is not hanging"
        for name, value in daemons.env.items():
            monkeypatch.setenv(name, value)
        causes = {cause["code"]: cause for cause in local(site).told("status")["site"]}
        assert causes["queue-waits"]["verdict"] == "action"
        assert "AssocGrpNodeLimit" in causes["queue-waits"]["text"]
    finally:
        daemons.limit(ACCOUNT, -1)
        status = turn.process.wait(300)
    assert status == 0
    assert turn.log.read_text() == ""
    assert content(site) == undisturbed


@pytest.fixture
def full_later(tmp_path: Path) -> Iterator[Path]:
    """A small file system for the stage, which can be filled."""
    place = tmp_path / "disk"
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64m", "none", str(place)], check=True)
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


@pytest.mark.long
def test_200_downlinks(tmp_path: Path, daemons: PrivateSlurm, full_later: Path) -> None:
    """Commands and jobs are killed, a node is drained, the stage is full, and three RetDefs are bad: some minutes."""
    site = month(tmp_path / "site", daemons.env, 100, EVERY, mem_mb="4000 * attempt")
    site.stage = full_later / "stage"
    site.configure(paths={"stage": str(site.stage)})
    bad = sorted((EVERY[17], EVERY[90], EVERY[155]))
    for dl in bad:
        (site.retdefs / dl / f"RetDef-{dl}-00001.xml").write_text("not a RetDef")
    chance, begun, commands = random.Random(7), time.monotonic(), 0

    def left() -> list[str]:
        return sorted({*EVERY} - {path.name.removeprefix("dl=") for path in site.work.glob("dl=*")})

    def wait_for_more(running: Running, count: int) -> None:
        most = len(left()) - count
        running.wait_for(f"{count} more", lambda: len(left()) <= most, 900)

    for number in (signal.SIGTERM, signal.SIGKILL, signal.SIGINT, signal.SIGKILL, signal.SIGTERM):
        running = Running(process(site), tmp_path, daemons.env)
        wait_for_more(running, 8)
        jobs = [job["id"] for job in site.jobs() if job["state"] == "RUNNING"]
        if jobs:
            daemons.run("scancel", "--signal=KILL", chance.choice(jobs), check=False)
        running.process.send_signal(number)
        running.process.wait(300)
        commands += 1
    daemons.drain()
    running = Running(process(site), tmp_path, daemons.env)
    time.sleep(20)
    daemons.resume()
    wait_for_more(running, 5)
    filler = full_later / "filler"
    with contextlib.suppress(OSError), filler.open("wb", buffering=0) as out:
        while True:
            out.write(b"x" * 65536)
    time.sleep(60)
    filler.unlink()
    running.process.wait(1800)
    commands += 1
    while left() != bad and commands < 9:
        Running(process(site), tmp_path, daemons.env).process.wait(1800)
        commands += 1
    print(f"{commands} commands, {len(site.jobs())} Slurm jobs, {time.monotonic() - begun:.0f} s")
    assert left() == bad
    wait_for("an empty queue", lambda: not daemons.run("squeue", "-h"), 300)
    records = event_records(site.stage.glob("2304*/r*/*.evt"))
    assert len(records) == len(set(records)), "each event once"
    for dl in {*EVERY} - {*bad}:
        found = Check(site.settings, DownlinkId(dl)).causes()
        assert [cause.code for cause in found if cause.verdict is Verdict.ACTION] == [], dl

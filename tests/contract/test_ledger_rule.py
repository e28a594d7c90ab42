"""The ledger in the workflow: it is loaded before a submission and after each hand-off, and has the MOOT keys."""

from datetime import datetime
from pathlib import Path

import pytest
from sqlalchemy import delete, insert

from halfpipe import paths
from halfpipe.causes import Verdict
from halfpipe.files.json_files import read_json
from halfpipe.formats import evt
from halfpipe.ids import DownlinkId, RunId
from halfpipe.ledger.check import site_troubles
from halfpipe.ledger.database import Ledger
from halfpipe.ledger.tables import DEFAULTS, DOWNLINKS, RUNS
from halfpipe.status.failed_jobs import failures
from tests.support.ledger_files import run_rows
from tests.support.level1 import with_level1
from tests.support.workflow import Job, Site

FIRST = "240601001"
RUN = RunId("2c2e5787")
LEDGER, SUBMIT, RECEIPT = Job("ledger", FIRST), Job("submit", FIRST), Job("receipt", FIRST)
KEY, ALIAS = 2959, "nomSciOps"


def with_tables(url: str) -> Ledger:
    """Return a ledger with the MOOT key of LPA runs."""
    ledger = Ledger(url, waits=())
    ledger.write(lambda _: None)
    row = {"tcompleted": datetime(2024, 6, 28), "moot_key": KEY, "moot_alias": ALIAS}
    ledger.write(lambda connection: connection.execute(insert(DEFAULTS), [row]))
    return ledger


def keys(site: Site) -> set[tuple[int, str]]:
    """Return the MOOT keys and aliases of all event files in the stage."""
    headers = [evt.read_header(path) for path in site.stage.glob(f"{FIRST}/*/*.evt")]
    return {(int(header["moot_key"]), header["moot_alias"].decode()) for header in headers}


def test_a_submission_loads_first_and_again_after_a_new_hand_off(tmp_path: Path) -> None:
    site, level1 = with_level1(tmp_path, FIRST)
    # The path of a database may have braces and blanks.
    (tmp_path / "a {b}").mkdir()
    url = f"sqlite:///{tmp_path}/a {{b}}/ledger.sqlite"
    ledger = with_tables(url)
    site.configure(ledger={"url": url}, moot={"mapping": True}, submit={"automatic": True})
    processed = site.snakemake().good()
    assert {RECEIPT, LEDGER, SUBMIT} < processed.jobs
    assert level1.commands() == ["createStream"]
    loaded = read_json(site.work / paths.loaded(FIRST))
    assert (loaded["handoff"], list(loaded["runs"])) == (1, [RUN])
    row = run_rows(ledger)[RUN]
    assert (row["status"], row["moot_key"], row["moot_alias"]) == ("InProgress", KEY, ALIAS)
    # Event files, the text for Level-1 and the receipt have the same key.
    assert keys(site) == {(KEY, ALIAS)}
    assert site.text("moot_keys", FIRST) == [f"{RUN.l1} {KEY} {ALIAS}"]
    assert [run["moot"] for run in site.receipt(FIRST)["runs"]] == [{"key": KEY, "alias": ALIAS}]
    assert site.halfpipe("ledger", "check").good().said.startswith("0 differences ")

    site.by_hand(FIRST)
    (cause,) = site.told("status")["downlinks"][0]["causes"]
    assert (cause["code"], f"halfpipe ledger load {FIRST}\n" in cause["do"]) == (
        "handoff-not-submitted",
        True,
    )
    tree = site.tree()
    again = site.snakemake(f"submit={FIRST}").good()
    assert again.jobs == {LEDGER, SUBMIT}
    assert level1.commands() == ["createStream"]
    assert read_json(site.work / paths.loaded(FIRST))["handoff"] == 2
    changed = {name for name, content in site.tree().items() if tree.get(name) != content}
    made = {f"work/{path}" for path in (paths.loaded(FIRST), paths.submitted(FIRST))}
    assert changed == made, "loading withdraws no receipt"
    for line in cause["do"].splitlines():
        site.halfpipe(*line.split()[1:]).good()
    assert level1.commands() == ["createStream", "rollbackStream"]


def test_a_ledger_that_is_down_delays_the_submission_only(tmp_path: Path) -> None:
    site, level1 = with_level1(tmp_path, FIRST)
    good, down = f"sqlite:///{tmp_path}/ledger.sqlite", f"sqlite:///{tmp_path}/no/such/place/ledger.sqlite"
    site.configure(ledger={"url": down})
    site.by_hand(FIRST)
    before = site.tree()
    # The hand-off needs no ledger.
    assert site.outstanding(FIRST) == frozenset()

    failed = site.snakemake(f"submit={FIRST}")
    assert failed.status == 1
    assert failed.jobs == {LEDGER}
    assert level1.commands() == []
    assert site.tree() == before
    codes = {each["code"]: each["verdict"] for each in site.told("status")["downlinks"][0]["causes"]}
    assert codes["ledger"] == "action"

    site.configure(ledger={"url": good})
    repaired = site.snakemake(f"submit={FIRST}").good()
    assert repaired.jobs == {LEDGER, SUBMIT}
    assert level1.commands() == ["createStream"]
    assert run_rows(Ledger(good))[RUN]["status"] == "InProgress"


@pytest.mark.parametrize("lost", ["file", "rows", "run"])
def test_lost_rows_of_the_ledger_stop_the_submission(lost: str, tmp_path: Path) -> None:
    site, level1 = with_level1(tmp_path, FIRST)
    file = tmp_path / "ledger.sqlite"
    site.configure(ledger={"url": f"sqlite:///{file}"})
    site.by_hand(FIRST)
    site.snakemake(paths.loaded(FIRST)).good()
    if lost == "file":
        file.unlink()
    else:
        gone = delete(DOWNLINKS if lost == "rows" else RUNS)
        Ledger(f"sqlite:///{file}").write(lambda connection: connection.execute(gone))
    ended = site.snakemake(f"submit={FIRST}").bad(f"halfpipe ledger load {FIRST}")
    assert ended.jobs == {SUBMIT}
    assert level1.commands() == []
    (failed,) = failures(site.settings, DownlinkId(FIRST), after_receipt=True)
    assert (failed.code, failed.verdict) == ("ledger-lacks", Verdict.ACTION)
    of_the_site = [(each.code, *each.remedy.do) for each in site_troubles(site.settings, [DownlinkId(FIRST)])]
    assert of_the_site == [("ledger-lacks", f"halfpipe ledger load {FIRST}")] * (lost != "run")
    site.halfpipe("ledger", "load", FIRST).good()
    assert list(site_troubles(site.settings, [DownlinkId(FIRST)])) == []
    site.snakemake(f"submit={FIRST}").good()
    assert level1.commands() == ["createStream"]

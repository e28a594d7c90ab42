"""A working directory that an earlier version has made is read and gone on with; tests/support/earlier.py made it."""

import json
import os
from pathlib import Path
from typing import Any

import pytest

from halfpipe.account.account import Site as Looked
from halfpipe.account.overview import known, overview
from halfpipe.board import pages
from halfpipe.ids import DownlinkId
from halfpipe.reports.check import NEW, check
from halfpipe.storage import paths
from halfpipe.storage.json_files import dump_json
from tests.support import earlier
from tests.support.earlier import FIRST, HALF_WAY, SECOND, SPREAD
from tests.support.in_process import ROOT
from tests.support.workflow import Job, Site

PACKED = sorted((ROOT / "tests" / "data").glob("*.tar.xz"))
OF_A_MOMENT = (
    "submissions.jsonl",
    "online.jsonl",
    "ledger.json",
    f"submit={FIRST}",
)  # who and when stands in these
OF_ACCOUNTS = ("announced", "missing_events", "unannounced_events", "uncovered_bytes")
SINCE_THEN = NEW | {*OF_ACCOUNTS, "level0", "known"}
# What manifests said in other words before.
SAID = "for datagrams that are missing, or for an EPU that was not seen yet"
SAYS = "for datagrams that are missing, for an EPU to go on, or for one that was not seen yet"

pytestmark = pytest.mark.either


def site_of(home: Path, monkeypatch: pytest.MonkeyPatch) -> Site:
    """Return a site as it was when the packed one was made, without anything in it."""
    monkeypatch.setenv("PATH", f"{earlier.programs(home)}{os.pathsep}{os.environ['PATH']}")
    return earlier.lay_out(home)


@pytest.fixture(params=PACKED, ids=lambda path: path.name.split(".")[0])
def site(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Site:
    """A site that an earlier version has made."""
    found = site_of(tmp_path / "site", monkeypatch)
    earlier.unpack(request.param, found.home)
    return found


def products(site: Site) -> dict[str, bytes]:
    """Return what must be the same whenever it is made; receipts without the checksum, which earlier ones lack."""
    found = {
        name: content
        for name, content in site.tree().items()
        if Path(name).name not in OF_A_MOMENT and Path(name).suffix != ".crc32"
    }
    for name, content in found.items():
        if Path(name).parent.name == "receipts" or Path(name).name.startswith("dl="):
            receipt = json.loads(content)
            receipt.pop("checksum", None)
            found[name] = dump_json(receipt).encode()
    return found


def said_by_both(found: dict[str, bytes]) -> dict[str, Any]:
    """Return products without what manifests, receipts of them and journals of the earlier version do not say."""

    def common(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: common(each) for key, each in value.items() if key not in SINCE_THEN}
        if isinstance(value, str):
            return value.replace(SAID, SAYS)
        return [common(each) for each in value] if isinstance(value, list) else value

    said: dict[str, Any] = {
        name: content for name, content in found.items() if not name.endswith("/handoff.json")
    }
    for name, content in list(said.items()):
        if Path(name).suffix in {".json", ".jsonl"} or Path(name).name.startswith("dl="):
            said[name] = [common(json.loads(line)) for line in _values(name, content)]
        if name.endswith("journal.jsonl"):
            said[name] = [{key: line[key] for key in line if key != "handoff"} for line in said[name]]
    return said


def _values(name: str, content: bytes) -> list[bytes]:
    return content.splitlines() if name.endswith(".jsonl") else [content]


def test_what_is_finished_stays_finished(site: Site) -> None:
    before = site.tree()
    for target in (f"dl={FIRST}", f"dl={SECOND}", f"submit={FIRST}", f"{SECOND}/ledger.json"):
        assert site.snakemake("-n", target).good().jobs == frozenset(), target
        site.snakemake(target).good()
    assert site.tree() == before
    for downlink in (FIRST, SECOND):
        assert list(check(site.settings, DownlinkId(downlink))) == []


def test_what_is_half_way_is_gone_on_with_to_the_same_bytes(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    to_do = {
        *[Job("stage_retdef", HALF_WAY, chunk=chunk) for chunk in ("00003", "00004")],
        *[Job("decode_chunk", HALF_WAY, chunk=chunk) for chunk in ("00002", "00003", "00004")],
        Job("deliver_run", HALF_WAY, run=SPREAD),
        Job("receipt", HALF_WAY),
    }
    assert site.snakemake("-n").good().jobs == to_do, "and nothing of the other downlinks"
    assert site.process(HALF_WAY).jobs == to_do
    assert list(check(site.settings, DownlinkId(HALF_WAY))) == []
    from_nothing = site_of(tmp_path / "from-nothing", monkeypatch)
    from_nothing.process(FIRST)
    from_nothing.process(FIRST, again=True)
    from_nothing.process(SECOND)
    from_nothing.process(HALF_WAY)
    assert said_by_both(products(site)) == said_by_both(products(from_nothing))


def test_records_and_ledger_are_gone_on_with(site: Site) -> None:
    files = (paths.submissions(FIRST), paths.online_record(earlier.LCI))
    before = {name: (site.work / name).read_text() for name in files}
    made = (site.home / "online").iterdir()
    kept = {path: path.read_bytes() for path in made}
    site.snakemake(f"submit={SECOND}", f"submit={HALF_WAY}").good()
    for downlink in (SECOND, HALF_WAY):
        assert json.loads((site.work / paths.submitted(downlink)).read_text())["state"] == "submitted"
    assert site.halfpipe("submit", "--open").good().said == "0 open\n"
    site.halfpipe("online").good()
    assert {path: path.read_bytes() for path in kept} == kept
    assert {name: (site.work / name).read_text() for name in files} == before
    site.halfpipe("ledger", "check").good()
    # A later hand-off is told from the one that the earlier version has submitted.
    site.process(FIRST, again=True)
    again = site.snakemake(f"submit={FIRST}").good()
    assert f"downlink {FIRST}: Level-1 has hand-off 2, now there is 3" in again.said


def test_the_board_shows_it(site: Site) -> None:
    looked = Looked(site.settings)
    home = site.home / "board"
    pages.make(looked, overview(looked, known(looked)), home)
    for downlink in (FIRST, SECOND):
        text = (home / paths.board_page(downlink)).read_text()
        assert f"<th>{SPREAD}<td>" in text
    assert f"<a href={HALF_WAY}.html>" in (home / paths.board()).read_text()

"""The rows of the ledger after downlinks are loaded, loaded again, processed again and removed."""

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, Table, insert, update

from halfpipe import paths
from halfpipe.decisions import Subject, What, decide
from halfpipe.errors import LedgerError, MissingInputError, StateError
from halfpipe.ids import DownlinkId, RunId
from halfpipe.ledger import check as check_module
from halfpipe.ledger import database as database_module
from halfpipe.ledger import moot_key
from halfpipe.ledger.check import check
from halfpipe.ledger.database import Ledger
from halfpipe.ledger.load import load, rebuild, remove, standing
from halfpipe.ledger.rows import Part
from halfpipe.ledger.tables import ACQUISITIONS, DATAGRAMS, DOWNLINKS, LINKS, RUNS, SEGMENTS
from halfpipe.merge.settle import KnownDatagrams
from halfpipe.settings import Moot
from halfpipe.state.deliveries import MootKey
from halfpipe.state.hand_offs import current
from tests.support.ledger_files import (
    GROUND_ID,
    Database,
    Datagram,
    abandon,
    content,
    named_in,
    process,
    run_rows,
    settings_of,
    whole,
)
from tests.support.series import damage, forget

ONE = DownlinkId("240601001")
TWO = DownlinkId("240601002")
THREE = DownlinkId("090101001")
RUN = RunId("2c2e5787")
OTHER = RunId("0dbb9fe9")


def ndgms(ledger: Ledger) -> dict[RunId, tuple[str, int]]:
    """Return status and number of datagrams of each run."""
    return {run: (row["status"], row["ndgms"]) for run, row in run_rows(ledger).items()}


def codes(ledger: Ledger, work: Path) -> list[str]:
    return [cause.code for cause in check(ledger, settings_of(work))]


def test_a_run_in_one_downlink(ledger: Ledger, tmp_path: Path) -> None:
    datagrams = [*whole(956, 3), *whole(957, 2, keys=(2**32 - 1, 5))]
    process(tmp_path, ONE, {RUN: datagrams}, handoff=2, into=ledger)
    found = content(ledger)
    at = {"scid": 77, "startedat": 741234567}
    times = {"dgmutc0": "29:27.750", "dgmutc1": "29:29.750", "evtutc0": "29:27.250", "evtutc1": "29:29.500"}
    row: dict[str, Any] = {"type": "LPA", "analysis": None, "status": "Complete", "ndgms": 5, "nevts": 50}
    row |= {"hwkey": 3348, "swkey": 7656, "moot_key": 0xFFFFFFFF, "moot_alias": "UNKNOWN"}
    row |= {key: datetime.fromisoformat(f"2024-06-28T02:{text}") for key, text in times.items()}
    assert found[RUNS.name] == [at | row]
    seal = current(tmp_path, ONE).seal
    places = {"indir": f"{tmp_path}/240601001", "outbase": str(tmp_path)}
    assert found[DOWNLINKS.name] == [
        {"id": 240601001, "l0key": None, "record": 1, "receipt": seal, "submitted": None} | places
    ]
    assert found[SEGMENTS.name] == [
        at | {"downlink_id": 240601001, "apid": apid, "dgmseq0": 0, "dgmseq1": last, "nevts": events}
        for apid, last, events in ((956, 2, 30), (957, 1, 20))
    ]
    assert [(row["apid"], row["datagrams"]) for row in found[DATAGRAMS.name]] == [
        (956, 0), (956, 2), (957, 0), (957, 1),
    ]  # fmt: skip
    first = found[DATAGRAMS.name][2]
    assert first | {"hwkey": 2**32 - 1, "evtseq0": 1007, "oaction": "start", "modename": "NORMAL"} == first


def test_a_run_is_complete_with_the_datagrams_of_all_downlinks(ledger: Ledger, tmp_path: Path) -> None:
    settings = settings_of(tmp_path)
    epu0 = whole(956, 4)
    epu1 = whole(957, 4)
    process(tmp_path, ONE, {RUN: [*epu0[:2], *epu1[:3]]})
    process(tmp_path, TWO, {RUN: [*epu0[2:], *epu1[2:]]})  # both have datagram 2 of EPU 1
    load(ledger, settings, ONE)
    before = content(ledger)
    load(ledger, settings, ONE)
    assert content(ledger) == before, "again changes nothing"
    assert ndgms(ledger) == {RUN: ("InProgress", 5)}
    load(ledger, settings, TWO)
    whole_row = run_rows(ledger)[RUN]
    assert (whole_row["status"], whole_row["ndgms"], whole_row["nevts"]) == ("Complete", 8, 80)
    remove(ledger, settings, ONE)
    assert ndgms(ledger) == {RUN: ("InProgress", 4)}
    load(ledger, settings, ONE)
    assert run_rows(ledger)[RUN] == whole_row
    # It does not contain the run any more.
    process(tmp_path, ONE, {OTHER: whole(965, 3)}, handoff=2, into=ledger)
    assert ndgms(ledger) == {RUN: ("InProgress", 4), OTHER: ("Complete", 3)}
    for downlink in (ONE, TWO):
        remove(ledger, settings, downlink)
    assert all(rows == [] for rows in content(ledger).values())


def test_a_gap_in_one_index_and_numbers_beyond_16_bits(ledger: Ledger, tmp_path: Path) -> None:
    epu0 = whole(956, 4)
    numbers = (0, 2**16, 2**16 + 1, 2**32 - 1)
    process(
        tmp_path,
        ONE,
        {RUN: [*epu0[:1], *epu0[2:], *whole(957, 4)], OTHER: [Datagram(965, n, events=0) for n in numbers]},
    )
    load(ledger, settings_of(tmp_path), ONE)
    assert ndgms(ledger) == {RUN: ("InProgress", 7), OTHER: ("InProgress", 4)}
    found = content(ledger)
    of_other = [row for row in found[SEGMENTS.name] if row["apid"] == 965]
    assert {(row["dgmseq0"], row["dgmseq1"]) for row in of_other} == {
        (0, 0), (2**16, 2**16 + 1), (2**32 - 1, 2**32 - 1),
    }  # fmt: skip
    row = run_rows(ledger)[OTHER]
    assert (row["type"], row["nevts"], row["evtutc0"], row["evtutc1"]) == ("LCI", 0, None, None)
    assert {row["evtseq0"] for row in found[DATAGRAMS.name] if row["apid"] == 965} == {None}


def test_keys_are_those_of_the_first_datagram_in_time(ledger: Ledger, tmp_path: Path) -> None:
    early = [Datagram(957, 7, utc=1e9, keys=(3, 4))]
    for downlink, brought, keys in ((ONE, whole(956, 2, keys=(1, 2)), (1, 2)), (TWO, early, (3, 4))):
        process(tmp_path, downlink, {RUN: brought}, into=ledger)
        assert (run_rows(ledger)[RUN]["hwkey"], run_rows(ledger)[RUN]["swkey"]) == keys


def test_an_abandoned_run_is_incomplete_unless_it_is_complete_or_refused(
    ledger: Ledger, tmp_path: Path
) -> None:
    settings = settings_of(tmp_path)

    def statuses() -> tuple[str, str]:
        load(ledger, settings, ONE)
        return run_rows(ledger)[RUN]["status"], run_rows(ledger)[OTHER]["status"]

    process(tmp_path, ONE, {RUN: whole(956, 2), OTHER: whole(965, 2)}, refused=[OTHER])
    assert statuses() == ("InProgress", "InProgress")
    abandon(tmp_path, RUN, ONE, delivered=False)
    assert statuses() == ("InProgress", "InProgress"), "its waiting events wait for the next delivery"
    abandon(tmp_path, RUN, ONE, last=0)
    assert statuses() == ("InProgress", "InProgress"), "that delivery did not know all datagrams"
    for run in (RUN, OTHER):
        abandon(tmp_path, run, ONE)
    assert statuses() == ("Incomplete", "InProgress")
    process(tmp_path, ONE, {RUN: whole(956, 2), OTHER: whole(965, 2)}, handoff=2)
    assert statuses() == ("Incomplete", "Complete")
    decide(tmp_path, What.ABANDONED, Subject(None, run=RUN), None, "it came", undone=True)
    assert statuses() == ("InProgress", "Complete")
    decide(tmp_path, What.ABANDONED, Subject(None, run=RUN), None, "a test")
    assert statuses() == ("Incomplete", "Complete")


def test_a_run_that_was_processed_again_and_not_loaded_is_not_complete(
    ledger: Ledger, tmp_path: Path
) -> None:
    """The ledger does not know yet whether Level-1 would refuse its new part."""
    settings = settings_of(tmp_path)
    process(tmp_path, ONE, {RUN: whole(956, 4)[:3]}, into=ledger)
    process(tmp_path, TWO, {RUN: whole(957, 4)}, into=ledger)
    process(tmp_path, ONE, {RUN: whole(956, 4)}, handoff=2)
    load(ledger, settings, TWO)
    assert ndgms(ledger) == {RUN: ("InProgress", 8)}
    load(ledger, settings, ONE)
    assert ndgms(ledger) == {RUN: ("Complete", 8)}


def test_moot_is_mapped_or_overridden(database: Database, tmp_path: Path) -> None:
    ledger = database.ledger()
    mapping = replace(settings_of(tmp_path), moot=Moot(mapping=True))
    rows = KnownDatagrams.of([each.line(RUN) for each in whole(956, 2)]).rows
    at = datetime(2024, 6, 28, 2)
    # A table or view that exists already stays as it is.
    database.by_others(
        "CREATE TABLE glastops_acquisition (who VARCHAR(9), id NUMERIC(12), trequested TIMESTAMP, startedat "
        "NUMERIC(12), type CHAR(16), moot_key NUMERIC(12), moot_alias CHAR(64))",
        "CREATE TABLE isoc_defaults (tcompleted TIMESTAMP, moot_key NUMERIC(12), moot_alias CHAR(64))",
        f"INSERT INTO isoc_defaults VALUES ('{at}.000000', {2**32 - 2}, 'nomSciOps')",
        "CREATE VIEW glastops_acqdefaults AS SELECT * FROM isoc_defaults",
    )
    process(tmp_path, ONE, {RUN: whole(956, 2)}, into=ledger)

    def is_of(expected: MootKey) -> bool:
        """Tell whether the row and the event files of a merge have this key and alias."""
        row = run_rows(ledger)[RUN]
        of_merge = moot_key.of_run(database.of(mapping), RUN, rows)
        return MootKey(row["moot_key"], row["moot_alias"]) == expected == of_merge

    assert is_of(MootKey(2**32 - 2, "nomSciOps"))
    request = {"id": GROUND_ID, "trequested": at, "type": "LCI", "moot_key": 9, "moot_alias": "calibOps"}
    ledger.write(lambda c: c.execute(insert(ACQUISITIONS), [request]))
    load(ledger, settings_of(tmp_path), ONE)
    assert is_of(MootKey(9, "calibOps"))
    assert run_rows(ledger)[RUN]["type"] == "LPA", "the type follows from the APIDs, not from the request"

    # A key that does not fit into an event file.
    ledger.write(lambda c: c.execute(update(ACQUISITIONS).values(moot_key=2**32)))
    with pytest.raises(StateError) as caught:
        load(ledger, settings_of(tmp_path), ONE)
    assert caught.value.code == "ledger"
    with pytest.raises(LedgerError):
        moot_key.of_run(database.of(mapping), RUN, rows)
    by_hand = tmp_path / "moot.txt"
    by_hand.write_text(f"{RUN.l1} 0 byHand\n{RUN.l1[:-1]}8 8 ofAnother\n")
    load(ledger, settings_of(tmp_path, moot_file=by_hand), ONE)
    assert run_rows(ledger)[RUN]["moot_alias"] == "byHand"


def test_data_that_cannot_be_entered_change_nothing(ledger: Ledger, tmp_path: Path) -> None:
    process(tmp_path, ONE, {RUN: whole(956, 2)}, into=ledger)
    before = content(ledger)
    for brought in (
        whole(957, 2, scid=99),  # the other downlink has the run from spacecraft 77
        [Datagram(957, 0), Datagram(957, 1, scid=99)],
        [Datagram(957, 0, utc=1e15)],
        [Datagram(957, 0, events=2**63)],
    ):
        with pytest.raises(StateError):
            process(tmp_path, TWO, {RUN: brought}, into=ledger)
    process(tmp_path, TWO, {RUN: whole(957, 2)})
    (tmp_path / paths.datagrams(RUN, ONE)).unlink()
    for downlink in (TWO, THREE):  # the third was never handed off
        with pytest.raises(MissingInputError):
            load(ledger, settings_of(tmp_path), downlink)
    assert content(ledger) == before
    remove(ledger, settings_of(tmp_path), ONE)
    load(ledger, settings_of(tmp_path), TWO)
    assert ndgms(ledger) == {RUN: ("InProgress", 2)}


def test_an_error_names_what_the_database_refused(ledger: Ledger) -> None:
    row = {"id": 1, "record": 1, "receipt": "seal"}
    with pytest.raises(LedgerError, match=r"(?i)unique constraint"):
        ledger.write(lambda connection: connection.execute(insert(DOWNLINKS), [row, row]))


def test_a_downlink_without_datagrams(ledger: Ledger, tmp_path: Path) -> None:
    settings = settings_of(tmp_path)
    process(tmp_path, THREE, {})
    entry = load(ledger, settings, THREE)
    assert (entry.downlink, entry.handed.number, entry.parts) == ("090101001", 1, {})
    found = content(ledger)
    assert [row["id"] for row in found[DOWNLINKS.name]] == [90101001], "a number, without the leading zero"
    assert found[RUNS.name] == []
    assert (check(ledger, settings), rebuild(ledger, settings)) == ([], 1)
    # A downlink with event files of a run without a row cannot be loaded, so it is not submitted.
    process(tmp_path, ONE, {RUN: [], OTHER: whole(965, 2)}, staged=[RUN, OTHER])
    with pytest.raises(StateError):
        load(ledger, settings, ONE)
    assert content(ledger) == found
    process(tmp_path, TWO, {RUN: whole(956, 2)}, into=ledger)
    load(ledger, settings, ONE)
    assert set(run_rows(ledger)) == {RUN, OTHER}


def test_check_names_the_downlinks_that_differ(ledger: Ledger, tmp_path: Path) -> None:
    settings = settings_of(tmp_path)

    def found(*downlinks: DownlinkId) -> list[tuple[str, str]]:
        return [(named_in(each.text)[-1], each.code) for each in check(ledger, settings, downlinks)]

    process(tmp_path, ONE, {RUN: whole(956, 2)}, into=ledger)
    process(tmp_path, TWO, {RUN: whole(957, 2)})
    assert found() == found(TWO) == [(TWO, "ledger-lacks")]
    load(ledger, settings, TWO)
    assert found() == []
    process(tmp_path, ONE, {RUN: whole(956, 3)}, handoff=2)
    assert found() == [(ONE, "ledger-lacks")]
    assert found(TWO) == []
    load(ledger, settings, ONE)

    forget(tmp_path, paths.receipts(ONE), 2)
    assert found() == [(ONE, "restored")]
    (tmp_path / paths.receipt(ONE)).unlink()
    forget(tmp_path, paths.receipts(ONE))
    assert found() == [(ONE, "restored")]
    damage(tmp_path, paths.receipts(TWO))
    assert found(TWO) == [(TWO, "damaged")]
    with pytest.raises(MissingInputError):
        found(THREE)
    assert ndgms(ledger) == {RUN: ("Complete", 5)}, "nothing was changed by looking"


def test_a_rebuild_enters_no_older_files_than_a_load_beside_it(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While the rebuild waits for the database, the downlink is processed again and loaded."""
    ledger = database.ledger()
    beside = database.ledger()
    process(tmp_path, ONE, {RUN: whole(956, 2)}, into=ledger)
    write = ledger.write
    calls = []

    def waits(work: Callable[[Connection], Any]) -> Any:
        calls.append(work)
        if len(calls) == 2:  # the first asks which downlinks there are
            process(tmp_path, ONE, {RUN: whole(956, 3)}, handoff=2, into=beside)
        return write(work)

    monkeypatch.setattr(ledger, "write", waits)
    assert rebuild(ledger, settings_of(tmp_path)) == 1
    assert len(calls) == 2
    assert run_rows(ledger)[RUN]["ndgms"] == 3
    assert codes(ledger, tmp_path) == []


def test_check_does_not_block_writers(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database_module, "LOCK_SECONDS", 1)
    ledger = database.ledger()
    beside = database.ledger(())
    process(tmp_path, ONE, {RUN: whole(956, 2)}, into=ledger)

    def meanwhile(*found: Any) -> str:
        process(tmp_path, TWO, {RUN: whole(957, 2)}, into=beside)
        return standing(*found)

    monkeypatch.setattr(check_module, "standing", meanwhile)
    assert codes(ledger, tmp_path) == []
    assert run_rows(ledger)[RUN]["status"] == "Complete"


@pytest.mark.parametrize(
    ("table", "column", "value"),
    [
        (RUNS, "moot_alias", "other"), (SEGMENTS, "nevts", 1), (DATAGRAMS, "creason", "other"),
        (LINKS, "refused", 1), (DOWNLINKS, "outbase", "/elsewhere"),
    ],
)  # fmt: skip
def test_a_load_repairs_every_row_that_was_changed(
    ledger: Ledger, tmp_path: Path, table: Table, column: str, value: object
) -> None:
    process(tmp_path, ONE, {RUN: whole(956, 2)}, into=ledger)
    before = content(ledger)
    ledger.write(lambda c: c.execute(update(table).values({column: value})))
    assert content(ledger) != before
    load(ledger, settings_of(tmp_path), ONE)
    assert content(ledger) == before


def test_a_lost_ledger_is_rebuilt_from_the_files(empty: Callable[[], Database], tmp_path: Path) -> None:
    ledger = empty().ledger()
    again = empty().ledger()
    settings = settings_of(tmp_path)
    process(tmp_path, ONE, {RUN: whole(956, 2)}, into=ledger)
    process(tmp_path, TWO, {RUN: whole(957, 2), OTHER: whole(965, 3)}, into=ledger)
    damage(tmp_path, paths.receipts(ONE))
    again.write(lambda _: None)
    assert codes(again, tmp_path) == ["damaged", "ledger-lacks"]
    with pytest.raises(StateError, match=ONE):
        rebuild(again, settings)
    assert set(run_rows(again)) == {RUN, OTHER}, "a damaged downlink stops no other"
    forget(tmp_path, paths.receipts(ONE))
    process(tmp_path, ONE, {RUN: whole(956, 2)})
    assert rebuild(again, settings) == 2
    assert content(again) == content(ledger)
    # A rebuilt ledger does not have downlinks whose files are gone for good.
    (tmp_path / paths.receipt(TWO)).unlink()
    forget(tmp_path, paths.receipts(TWO))
    (tmp_path / paths.datagrams(RUN, TWO)).unlink()
    assert rebuild(again, settings) == 1
    assert (codes(again, tmp_path), ndgms(again)) == ([], {RUN: ("InProgress", 2)})


def test_a_sequence_that_no_database_holds_is_null() -> None:
    known = KnownDatagrams.of([Datagram(956, 0).line(RUN)])
    known.rows.evtseq1[:] = 2**63
    (row,) = Part(ONE, RUN, 77, "", refused=False, datagrams=known).rows()[DATAGRAMS]
    assert (row["evtseq0"], row["evtseq1"]) == (1006, None)

"""`show_index`: the merged index as text is read back and compared with the chunk indexes it is made of."""

from pathlib import Path

import pytest

from halfpipe import paths
from halfpipe.errors import MissingInputError, StateError
from halfpipe.ids import DownlinkId, RunId
from halfpipe.tables import index_text
from tests.support.golden_cases import processed
from tests.support.verbs import halfpipe
from tests.support.workflow import Site

RUN = RunId("2c2e5787")
ONE = DownlinkId("240601001")
Event = tuple[bytes, ...]


def read(text: bytes) -> tuple[list[bytes], list[Event]]:
    """Read the datagram lines, which come first, and the fields of the event lines."""
    lines = text.splitlines()
    count = sum(line.startswith(b"DGM: ") for line in lines)
    events = [tuple(line.split()) for line in lines[count:]]
    assert all(len(event) == 9 and event[0] == b"EVT:" for event in events)
    return lines[:count], events


def chunk_lines(site: Site, downlink: str, run: str) -> tuple[set[bytes], dict[Event, set[Event]]]:
    """Return what the chunk indexes say: datagram lines; event lines, cut to 9 fields, by (sequence, APID)."""
    datagrams, events = set[bytes](), dict[Event, set[Event]]()
    for path in sorted((site.work / paths.chunks(downlink)).glob(f"*-{run}-*.idx")):
        for line in path.read_bytes().splitlines():
            fields = line.split()
            if fields[0] == b"DGM:":
                datagrams.add(line)
            elif fields[0] == b"EVT:":
                tag, started, sequence, _, _, _, _, apid, datagram, _, opened, closed, _, offset, file = (
                    fields
                )
                event = (
                    tag,
                    started,
                    sequence,
                    apid,
                    datagram,
                    opened,
                    closed,
                    offset,
                    file.rpartition(b"/")[2],
                )
                events.setdefault((sequence, apid), set()).add(event)
    return datagrams, events


def assert_is_what_the_chunks_say(site: Site, downlink: str, run: str, text: bytes) -> None:
    """Compare the text of a merged index with the chunk indexes, line by line."""
    datagrams, events = read(text)
    known_datagrams, known_events = chunk_lines(site, downlink, run)
    assert set(datagrams) == known_datagrams
    assert len(datagrams) == len(known_datagrams)
    numbers = [(int(fields[4]), int(fields[5])) for fields in (line.split() for line in datagrams)]
    assert numbers == sorted(numbers)
    keys = [(int(event[2]), int(event[3])) for event in events]
    assert keys == sorted(set(keys))
    assert len(events) == len(known_events) > 0
    for event in events:
        assert event in known_events[event[2], event[3]]


@pytest.mark.parametrize("case", ["dup_same_dl", "equal_sequence", "lci_acd"])
def test_golden_cases(tmp_path: Path, case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    site = processed(case, Site(tmp_path), ONE)
    (home,) = (site.work / paths.runs()).glob("*/240601001")
    run = RunId(home.parent.name)
    whole = b"".join(index_text.text(site.work, run, ONE))
    assert_is_what_the_chunks_say(site, ONE, run, whole)
    monkeypatch.setattr(index_text, "BLOCK", 7)
    pieces = list(index_text.text(site.work, run, ONE))
    assert b"".join(pieces) == whole
    assert max(piece.count(b"EVT:") for piece in pieces) == 7


def test_the_program(tmp_path: Path) -> None:
    site = processed("split2", Site(tmp_path), ONE)
    printed = halfpipe("show", "--index", RUN.l1, f"dl={ONE}", configfile=site.configfile).stdout.encode()
    assert_is_what_the_chunks_say(site, ONE, RUN, printed)
    bad = halfpipe("show", "2c2e0000", ONE, "--index", configfile=site.configfile)
    assert (bad.exit_code, bad.stdout) == (1, "")
    assert f"no merged index of run 2c2e0000 (r0741212160) in downlink {ONE}" in bad.stderr
    for words in ([RUN, RUN], [ONE, ONE], [RUN]):
        assert halfpipe("show", "--index", *words, configfile=site.configfile).exit_code == 2


def test_what_is_not_there_or_changes_meanwhile_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = processed("split2", Site(tmp_path), ONE)
    monkeypatch.setattr(index_text, "BLOCK", 7)
    text = index_text.text(site.work, RUN, ONE)
    next(text)
    file = site.work / paths.events(RUN, ONE)
    file.replace(file.with_name("aside"))
    file.write_bytes(file.with_name("aside").read_bytes())
    with pytest.raises(StateError, match="was rewritten while it was read"):
        list(text)
    file.unlink()
    with pytest.raises(MissingInputError, match=rf"{file}: no such file\. .* snakemake -F dl={ONE}"):
        list(index_text.text(site.work, RUN, ONE))
    with pytest.raises(MissingInputError, match=f"no merged index of run {RUN}"):
        list(index_text.text(site.work, RUN, DownlinkId("240601002")))

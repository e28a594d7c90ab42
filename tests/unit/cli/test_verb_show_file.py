"""`halfpipe show FILE`: every number can be looked up in the bytes."""

import struct
from pathlib import Path

import pytest

from tests.support.golden_cases import GOLDEN
from tests.support.verbs import halfpipe

CHUNK = GOLDEN / "equal_sequence" / "in" / "240601001" / "0077014d-2c2e5787-0956-00001.evt"
LPA = GOLDEN / "latc_lpa" / "in" / "240601001" / CHUNK.name


def shown(*arguments: str | Path) -> list[str]:
    ended = halfpipe("show", *arguments)
    assert (ended.exit_code, ended.stderr) == (0, "")
    return ended.stdout.splitlines()


def test_header_and_counts() -> None:
    content = LPA.read_bytes()
    lines = shown(LPA)
    numbers = struct.unpack_from("<3Q", content, 20)
    assert lines[0] == f"{LPA}: {len(content)} bytes"
    assert "0xfaf32000" in lines[1]
    values = {line[24:49].strip(): line[49:].split(" (")[0] for line in lines}
    assert (values["runid"], values["moot_alias"]) == ("240601001", "'LSEWRITER_UNSET'")
    assert [values[field] for field in ("evtcnt", "gemseq_beg", "gemseq_end")] == list(map(str, numbers))
    assert lines[-2:] == [f"{numbers[0]} events", f"APID 0956  LPA      {numbers[0]}"]


def test_the_events_of_a_sequence() -> None:
    last = struct.unpack_from("<Q", LPA.read_bytes(), 36)[0]
    assert shown(LPA, "--event", "-1") == shown(LPA, "--sequence", str(last))
    assert len([line for line in shown(CHUNK, "--sequence", "1066") if line.startswith("event ")]) == 2


@pytest.mark.parametrize(
    "words", [("--event", "1000"), ("--event", "-1000"), ("--sequence", "5"), ("--sequence", "-5")]
)
def test_an_event_that_does_not_exist_is_an_error(words: tuple[str, str]) -> None:
    ended = halfpipe("show", LPA, *words)
    assert (ended.exit_code, f"{LPA}: no event " in ended.stderr) == (1, True)

"""The legacy's record of spans: read as its programs wrote it, and nothing else that a pickle can be."""

import pickle
import random
import subprocess
from pathlib import Path

import pytest

from halfpipe.errors import FormatError
from halfpipe.merge.intervals import Interval
from halfpipe.tools.legacy_spans import LONGEST_LINE, MOST_BYTES, read_spans
from tests.support.mutate import OF_TEXT, mutated

TWO = b"(lp1\n(L1L\nL6L\ntp2\na(I14\nI20\ntp3\na."

GOOD = {
    "long": (b"(lp1\n(L1002L\nL1071L\ntp2\na.", [(1002, 1071)]),
    "int": (b"(lp1\n(I1\nI6\ntp2\na.", [(1, 6)]),
    "two": (TWO, [(1, 6), (14, 20)]),
    "none": (b"(lp1\n.", []),
    "one sequence": (b"(lp1\n(I5\nI5\ntp2\na.", [(5, 5)]),
    "the highest": (b"(lp1\n(L0L\nL18446744073709551615L\ntp2\na.", [(0, 2**64 - 1)]),
    "from the other pickler": (b"(lp0\n(I1\nI6\ntp1\na.", [(1, 6)]),
    "twice the same": (b"(lp1\n(I1\nI6\ntp2\nag2\na.", [(1, 6), (1, 6)]),
    "out of order": (b"(lp1\n(I14\nI20\ntp2\na(I1\nI6\ntp3\na.", [(1, 6), (14, 20)]),
}


class Touches:
    """What touches a file when it is loaded."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[object, ...]:
        return (Path.touch, (self.mark,))


BAD = {
    "global": (b"cos\nsystem\n(S'touch evil'\ntR.", "GLOBAL"),
    "global in a list": (b"(lp1\ncos\nsystem\np2\na.", "GLOBAL"),
    "instance": (b"(S'touch evil'\nios\nsystem\n.", "STRING"),
    "instance without arguments": (b"(iposix\nabort\n.", "INST"),
    "object": (b"(cposix\nabort\no.", "GLOBAL"),
    "reduce of numbers": (b"(I1\nI2\ntR.", "REDUCE"),
    "build": (b"(lp1\n(dp2\nb.", "DICT"),
    "build of a list": (b"(lp1\n(lb.", "BUILD"),
    "extension": (b"\x82\x01.", "EXT1"),
    "persistent id": (b"Pevil\n.", "PERSID"),
    "binary persistent id": (b"(lp1\nQ.", "BINPERSID"),
    "protocol 2": (pickle.dumps([(1, 6)], 2), "PROTO"),
    "protocol 5": (pickle.dumps([(1, 6)], 5), "PROTO"),
    "protocol 1": (pickle.dumps([(1, 6)], 1), "EMPTY_LIST"),
    "frame of a petabyte": (b"\x95\x00\x00\x00\x00\x00\x00\x04\x00.", "FRAME"),
    "stack global": (b"\x8c\x02os\x8c\x06system\x93.", "SHORT_BINUNICODE"),
    "new object": (b"(lp1\n(I1\nI2\nt\x81.", "NEWOBJ"),
    "bytes of a gigabyte": (b"B\x00\x00\x00\x40evil.", "bytes in a"),
    "a number of a gigabyte": (b"\x8b\x00\x00\x00\x40evil.", "long4"),
    "a number of negative length": (b"\x8b\xff\xff\xff\xffevil.", "byte count < 0"),
    "text": (b"(lp1\n(VI am\nVno number\ntp2\na.", "UNICODE"),
    "string": (b"(lp1\nS'span'\na.", "STRING"),
    "float": (b"(lp1\n(F1.0\nF6.0\ntp2\na.", "FLOAT"),
    "none": (b"(lp1\nNa.", "NONE"),
    "true": (b"(lp1\n(I00\nI01\ntp2\na.", "no sequence"),
    "negative": (b"(lp1\n(I-1\nI6\ntp2\na.", "no sequence"),
    "more than 64 bits": (b"(lp1\n(L1L\nL18446744073709551616L\ntp2\na.", "no sequence"),
    "a huge number": (b"(lp1\n(L1L\nL" + b"9" * 5000 + b"L\ntp2\na.", f"a line of more than {LONGEST_LINE}"),
    "a number with blanks": (b"(lp1\n(I 1 x\nI6\ntp2\na.", "invalid literal"),
    "a long line": (b"(lp1\n(I1\nI" + b"0" * 100 + b"6\ntp2\na.", f"a line of more than {LONGEST_LINE}"),
    "memo bomb": (b"(l" + b"".join(b"p%d\n" % n for n in range(10**9, 10**9 + 99)) + b".", "out of turn"),
    "memo over memo": (b"(lp1\np1\n.", "out of turn"),
    "memo of a number": (b"(lp1\n(I1\np2\nI6\nta.", "out of turn"),
    "memo of nothing": (b"p1\n.", "damaged|range"),
    "memo with a name": (b"(lpx\n.", "invalid literal"),
    "memo that is not there": (b"(lp1\ng7\na.", "7"),
    "binary memo": (b"(lq\x01.", "BINPUT"),
    "memoize": (b"(l\x94.", "MEMOIZE"),
    "list in itself": (b"(lp1\ng1\na.", "something else than a span"),
    "list in a list": (b"(lp1\n(lp2\na.", "something else than a span"),
    "doubled again and again": (b"(lp1\n" + b"((" * 9 + b"I1\n", "too deep"),
    "marks without end": (b"(" * 100_000 + b".", f"a line of more than {LONGEST_LINE}"),
    "numbers without end": (b"(lp1\n" + b"I1\n" * 1000 + b".", "too deep"),
    "a list of numbers": (b"(I1\nI6\nlp1\n.", "a list of 2 items"),
    "a span of three": (b"(lp1\n(I1\nI6\nI7\ntp2\na.", "a tuple of 3 items"),
    "a span of one": (b"(lp1\n(I1\ntp2\na.", "a tuple of 1 items"),
    "backwards": (b"(lp1\n(I6\nI1\ntp2\na.", "no span"),
    "a span of lists": (b"(lp1\n((l(ltp2\na.", "no span"),
    "tuple without a mark": (b"I1\nI6\nt.", "without a mark"),
    "list without a mark": (b"l.", "without a mark"),
    "append to nothing": (b"a.", "damaged|empty"),
    "append to a number": (b"I1\n(I1\nI6\nta.", "something else than a span"),
    "pop": (b"(lp1\n(I1\nI6\nt0.", "POP"),
    "duplicate": (b"(lp1\n(I1\nI6\nt2aa.", "DUP"),
    "appends": (b"(lp1\n((I1\nI6\nte.", "APPENDS"),
    "dictionary": (b"(dp1\nI1\nI6\ns.", "DICT"),
    "a span alone": (b"(I1\nI6\ntp1\n.", "than one list"),
    "a number alone": (b"I1\n.", "than one list"),
    "two lists": (b"(lp1\n(lp2\n.", "than one list"),
    "a mark besides": (b"(lp1\n(.", "than one list"),
    "nothing": (b"", "exhausted"),
    "only an end": (b".", "than one list"),
    "without an end": (b"(lp1\n", "exhausted"),
    "cut": (TWO[:-9], "exhausted|newline|no newline"),
    "more behind it": (TWO + b"cos\nsystem\n.", "than one list"),
    "no pickle": (b"r0741234567 1 6\n", "LONG_BINPUT"),
    "zeros": (bytes(20), "opcode"),
    "too much": (b"(lp1\n" + b"(I1\nI6\nta" * (MOST_BYTES // 9) + b".", f"more than {MOST_BYTES} bytes"),
}  # fmt: skip


@pytest.mark.parametrize("name", GOOD)
def test_what_the_legacy_wrote_is_read(name: str, tmp_path: Path) -> None:
    content, spans = GOOD[name]
    path = tmp_path / "r0741234567-spans.txt"
    path.write_bytes(content)
    found = read_spans(path)
    assert found == tuple(spans)
    assert all(type(span) is Interval for span in found)
    assert sorted(pickle.loads(content, encoding="latin-1")) == spans, "as the one who wrote it means it"


@pytest.mark.parametrize("name", BAD)
def test_what_else_a_pickle_can_be_is_refused_by_name(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    content, said = BAD[name]
    path = tmp_path / "r0741234567-spans.txt"
    path.write_bytes(content)
    with pytest.raises(FormatError, match=rf"^{path}: no record of spans: .*({said})"):
        read_spans(path)
    assert list(tmp_path.iterdir()) == [path]


def test_nothing_that_a_pickle_asks_for_is_done(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    path, mark = tmp_path / "r0741234567-spans.txt", tmp_path / "evil"
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        path.write_bytes(pickle.dumps([(1, 6), Touches(Path("evil"))], protocol))
        with pytest.raises(FormatError, match="no record of spans"):
            read_spans(path)
    assert not mark.exists()
    pickle.loads(path.read_bytes())
    assert mark.exists(), "the pickle was a good one"


def test_damage_is_refused_or_gives_spans(tmp_path: Path) -> None:
    path, rng = tmp_path / "r0741234567-spans.txt", random.Random(12)
    refused = 0
    for _ in range(3000):
        path.write_bytes(mutated(rng, TWO, OF_TEXT))
        try:
            spans = read_spans(path)
        except FormatError:
            refused += 1
        else:
            assert all(0 <= first <= last < 2**64 for first, last in spans)
    assert 2000 < refused < 3000


def test_what_is_no_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FormatError, match="Is a directory"):
        read_spans(tmp_path)
    subprocess.run(["mkfifo", tmp_path / "pipe"], check=True)
    with pytest.raises(FormatError, match="not a regular file"):
        read_spans(tmp_path / "pipe")

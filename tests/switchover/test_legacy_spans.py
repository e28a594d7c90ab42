"""The legacy's record of spans: read as its programs wrote it, and nothing else that a pickle can be."""

import pickle
import subprocess
from pathlib import Path

import pytest

from halfpipe.errors import FormatError
from halfpipe.merge.intervals import Interval
from halfpipe_switchover.legacy_tree import MOST_BYTES, read_spans

TWO = b"(lp1\n(L1L\nL6L\ntp2\na(I14\nI20\ntp3\na."

GOOD = {
    b"(lp1\n(L1002L\nL1071L\ntp2\na.": [(1002, 1071)],
    TWO: [(1, 6), (14, 20)],
    b"(lp1\n.": [],
    b"(lp1\n(L0L\nL18446744073709551615L\ntp2\na.": [(0, 2**64 - 1)],
    b"(lp0\n(I5\nI5\ntp1\na.": [(5, 5)],  # by the other pickler
    b"(l(I5\nI6\nta.": [(5, 6)],
    b"(lp1\n(I1\nI6\ntp2\nag2\na.": [(1, 6), (1, 6)],
    b"(lp1\n(I14\nI20\ntp2\na(I1\nI6\ntp3\na.": [(1, 6), (14, 20)],
}


@pytest.mark.parametrize("content", GOOD)
def test_spans_are_read(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "r0741234567-spans.txt"
    path.write_bytes(content)
    found = read_spans(path)
    assert found == tuple(GOOD[content])
    assert all(type(span) is Interval for span in found)
    assert sorted(pickle.loads(content, encoding="latin-1")) == GOOD[content], (
        "as the one who wrote it means it"
    )


@pytest.mark.parametrize(
    "content",
    [
        *(pickle.dumps([(1, 6)], protocol) for protocol in range(1, 6)),
        b"cos\nsystem\n(S'touch evil'\ntR.",
        b"(lp1\ncos\nsystem\np2\na.",
        *(b"", b".", b"(lp1\n", TWO[:-9], TWO + b"cos\nsystem\n.", b"r0741234567 1 6\n"),
        b"(lp1\n(VI am\nVno number\ntp2\na.",
        b"(lp1\n(I00\nI01\ntp2\na.",  # False and True
        b"(lp1\n(I-1\nI6\ntp2\na.",
        b"(lp1\n(L1L\nL18446744073709551616L\ntp2\na.",
        b"(lp1\n(L1L\nL" + b"9" * 5000 + b"L\ntp2\na.",
        b"(lp1\ng7\na.",  # a name that nothing has
        b"(lp1\ng1\na.",  # the list in itself
        b"(lp1\n(I1\nI6\nI7\ntp2\na.",
        b"(lp1\n(I6\nI1\ntp2\na.",
        b"(I1\nI6\ntp1\n.",
        b"(lp1\n" + b"(I1\nI6\nta" * (MOST_BYTES // 9) + b".",
    ],
)
def test_other_pickles_are_refused(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "r0741234567-spans.txt"
    path.write_bytes(content)
    with pytest.raises(FormatError, match=f"^{path}: "):
        read_spans(path)


def test_directory_and_pipe_are_refused(tmp_path: Path) -> None:
    subprocess.run(["mkfifo", tmp_path / "pipe"], check=True)
    for path in (tmp_path, tmp_path / "pipe"):
        with pytest.raises(FormatError):
            read_spans(path)

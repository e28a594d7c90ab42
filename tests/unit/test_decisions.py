"""Decisions: which one counts, what it covers, and two people at once."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from halfpipe import paths
from halfpipe.decisions import DECIDED_OF, Decisions, Subject, UndecidedError, What, decide
from halfpipe.errors import IdError
from halfpipe.files.records import DamagedError, numbers
from halfpipe.ids import ChunkId, DownlinkId, RunId

DL = DownlinkId("230401001")
RUN = RunId("29d7d35d")
SUBJECTS = {
    "a chunk": Subject(DL, chunk=ChunkId("00003")),
    "a run of a downlink": Subject(DL, run=RUN),
    "a run": Subject(None, run=RUN),
}
STEPS = st.lists(
    st.tuples(st.sampled_from([*map(What, DECIDED_OF)]), st.sampled_from([None, 1, 2]), st.booleans()),
    max_size=12,
)


@pytest.mark.parametrize("kind", SUBJECTS)
def test_a_subject_is_read_as_it_is_written(kind: str) -> None:
    subject = SUBJECTS[kind]
    assert (Subject.parse(str(subject)), subject.kind) == (subject, kind)
    assert Subject.parse(str(subject).replace(RUN, RUN.l1)) == subject


@pytest.mark.parametrize(
    "text", ["", "/", "230401001", "230401001/", "23040100/00003", "230401001/3", "x/29d7d35d"]
)
def test_other_text_is_no_subject(text: str) -> None:
    with pytest.raises(IdError):
        Subject.parse(text)


@given(steps=STEPS)
def test_the_last_decision_about_a_subject_counts(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[What, int | None, bool]]
) -> None:
    work, expected = tmp_path_factory.mktemp("work"), dict[What, int | None]()
    for what, number, undone in steps:
        subject = SUBJECTS[DECIDED_OF[what]]
        if undone and what not in expected:
            with pytest.raises(UndecidedError):
                decide(work, what, subject, number, "why", undone=True)
        elif undone:
            assert decide(work, what, subject, number, "why", undone=True)
            del expected[what]
        else:
            is_new = what not in expected or expected[what] != number
            assert decide(work, what, subject, number, "why") is is_new
            expected[what] = number
    found = Decisions.read(work)
    assert {what: one.number for (what, _), one in found.in_force.items()} == expected
    for what in map(What, DECIDED_OF):
        subject = SUBJECTS[DECIDED_OF[what]]
        for number in (0, 1, 2, 3):
            limit = expected.get(what, -1)
            assert (found.why(what, subject, number) is not None) is (limit is None or number <= limit)
    assert found.is_abandoned(RUN) is (What.ABANDONED in expected)
    assert list(found.left_out(DL)) == [ChunkId("00003")] * (What.LEFT_OUT in expected)
    assert not found.left_out(DownlinkId("230401002"))


def test_people_who_decide_at_once_are_all_recorded(tmp_path: Path) -> None:
    subjects = [Subject(DL, chunk=ChunkId.of(number)) for number in range(1, 5)]
    with ThreadPoolExecutor() as pool:
        assert all(pool.map(lambda each: decide(tmp_path, What.LEFT_OUT, each, None, "lost"), subjects))
    assert len(numbers(tmp_path / paths.DECISIONS)) == 4
    assert set(Decisions.read(tmp_path).left_out(DL)) == {each.chunk for each in subjects}


def test_a_lost_copy_is_read_from_the_other_and_without_both_nothing_is_known(tmp_path: Path) -> None:
    for number in (1, 2):
        decide(tmp_path, What.LEFT_OUT, Subject(DL, chunk=ChunkId.of(number)), None, "lost")
    first = tmp_path / paths.DECISIONS / "000001.json"
    first.unlink()
    assert len(Decisions.read(tmp_path).left_out(DL)) == 2
    first.write_text("{}")
    (tmp_path / paths.copies(paths.DECISIONS) / "000001.json").write_text("{}")
    with pytest.raises(DamagedError):
        Decisions.read(tmp_path)

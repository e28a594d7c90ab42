"""The mark of a working directory: made once, the same for all processes; other formats are refused."""

import json
from functools import partial
from pathlib import Path

import pytest

from halfpipe import paths
from halfpipe.errors import ConfigError
from halfpipe.files.working_directory import begin, refuse_other
from tests.support.forks import ended, started


def names(directory: Path) -> list[str]:
    return [path.name for path in directory.iterdir()]


def test_the_mark_is_made_once(tmp_path: Path) -> None:
    work = tmp_path / "site" / "work"
    assert refuse_other(work) is None
    assert not work.exists()
    known = begin(work)
    assert json.loads((work / "format.json").read_text()) == {"format": 4, "id": known}
    before = (work / "format.json").stat()
    assert begin(work) == refuse_other(work) == known
    assert (work / "format.json").stat() == before
    assert names(work) == ["format.json"]
    assert begin(tmp_path / "another") != known


def test_heads_that_race_agree(tmp_path: Path) -> None:
    def races(number: int) -> None:
        while not (tmp_path / "go").exists():
            pass
        (tmp_path / f"said-{number}").write_text(begin(tmp_path / "work"))

    heads = [started(partial(races, number)) for number in range(6)]
    (tmp_path / "go").touch()
    assert [ended(head) for head in heads] == [0] * 6
    said = {path.read_text() for path in tmp_path.glob("said-*")}
    assert said == {refuse_other(tmp_path / "work")}
    assert names(tmp_path / "work") == ["format.json"]


USES = [begin, refuse_other]
ID = '"id": "0123456789abcdef0123456789abcdef"'
DAMAGED = ["", "{", "[" * 100_000, "[]", "null", "{}", '{"format": 4}', '{"format": 4, "id": "x"}', "\xff"]
DAMAGED += [
    '{"format": 4, "id": 7}',
    f'{{"format": true, {ID}}}',
    f'{{"format": "4", {ID}}}',
    f'{{"format": 3, {ID}}}',
    f'{{"format": 4, {ID}, "more": 1}}',
]


@pytest.mark.parametrize("content", DAMAGED, ids=range(len(DAMAGED)))
def test_a_damaged_mark_or_another_format_is_refused_and_not_changed(tmp_path: Path, content: str) -> None:
    mark = tmp_path / paths.FORMAT_MARK
    mark.write_text(content, encoding="latin-1")
    for use in USES:
        with pytest.raises(ConfigError, match="damaged"):
            use(tmp_path)
        assert mark.read_text(encoding="latin-1") == content


@pytest.mark.parametrize("name", ["runs", "dl=240601001"])
def test_processed_data_without_a_mark_are_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / name).mkdir()
    for use in USES:
        with pytest.raises(ConfigError, match=f"^{tmp_path} has {name} "):
            use(tmp_path)
        assert names(tmp_path) == [name]


def test_logs_locks_and_switches_do_not_count_as_processing(tmp_path: Path) -> None:
    for name in (paths.LOGS, "locks", "halts", paths.DECISIONS, ".snakemake", "240601001"):
        (tmp_path / name).mkdir()
    assert refuse_other(tmp_path) is None
    assert begin(tmp_path) == refuse_other(tmp_path)


def test_a_mark_that_cannot_be_made_or_read_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(NotADirectoryError):
        begin(tmp_path / "file" / "work")
    (tmp_path / paths.FORMAT_MARK).mkdir()
    with pytest.raises(ConfigError, match=str(tmp_path)):
        refuse_other(tmp_path)

"""The mark of a working directory: made once, the same for everybody, and no other format is worked with."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from halfpipe import paths
from halfpipe.errors import ConfigError
from halfpipe.files.working_directory import FORMAT, begin, identity, refuse_other

RACES = """
import sys, time
from pathlib import Path
from halfpipe.files.working_directory import begin
while not Path(sys.argv[1], "go").exists(): pass
print(begin(Path(sys.argv[1], "work")))
"""


def names(directory: Path) -> list[str]:
    return [path.name for path in directory.iterdir()]


def test_it_is_made_once(tmp_path: Path) -> None:
    work = tmp_path / "site" / "work"
    assert refuse_other(work) is None
    assert not work.exists()
    with pytest.raises(ConfigError, match="nothing was processed"):
        identity(work)
    known = begin(work)
    assert json.loads((work / "format.json").read_text()) == {"format": FORMAT, "id": known}
    before = (work / "format.json").stat()
    assert {begin(work), identity(work), refuse_other(work)} == {known}
    assert (work / "format.json").stat() == before
    assert names(work) == ["format.json"]
    assert begin(tmp_path / "another") != known


def test_heads_that_race_agree(tmp_path: Path) -> None:
    heads = [
        subprocess.Popen([sys.executable, "-c", RACES, str(tmp_path)], stdout=subprocess.PIPE, text=True)
        for _ in range(6)
    ]
    (tmp_path / "go").touch()
    said = {head.communicate()[0].strip() for head in heads}
    assert said == {identity(tmp_path / "work")}
    assert names(tmp_path / "work") == ["format.json"]


@pytest.mark.parametrize(
    "content",
    [
        "",
        "{",
        "[" * 100_000,
        "[]",
        "null",
        "{}",
        '{"format": 1}',
        '{"format": 1, "id": "x"}',
        '{"format": 1, "id": 7}',
        '{"format": true, "id": "0123456789abcdef0123456789abcdef"}',
        '{"format": "1", "id": "0123456789abcdef0123456789abcdef"}',
        b"\xff",
    ],
    ids=range(12),
)
@pytest.mark.parametrize("use", [begin, identity, refuse_other])
def test_a_damaged_one_is_refused_and_stays(
    tmp_path: Path, content: str | bytes, use: Callable[[Path], str]
) -> None:
    mark = tmp_path / paths.format_mark()
    mark.write_bytes(content.encode() if isinstance(content, str) else content)
    before = mark.read_bytes()
    with pytest.raises(ConfigError, match=f"^{mark}: damaged"):
        use(tmp_path)
    assert mark.read_bytes() == before


@pytest.mark.parametrize("use", [begin, identity, refuse_other])
def test_another_format_is_refused(tmp_path: Path, use: Callable[[Path], str]) -> None:
    (tmp_path / paths.format_mark()).write_text(json.dumps({"format": FORMAT + 1, "some": "thing else"}))
    with pytest.raises(
        ConfigError, match=f"has format {FORMAT + 1}, and this HalfPipe knows format {FORMAT} alone"
    ):
        use(tmp_path)


@pytest.mark.parametrize("name", ["runs", "dl=240601001"])
@pytest.mark.parametrize("use", [begin, identity, refuse_other])
def test_what_was_processed_without_a_mark_is_refused(
    tmp_path: Path, name: str, use: Callable[[Path], str]
) -> None:
    (tmp_path / name).mkdir()
    with pytest.raises(ConfigError, match=f"^{tmp_path} has {name} and no format.json"):
        use(tmp_path)
    assert names(tmp_path) == [name]


def test_logs_locks_and_switches_are_no_processing(tmp_path: Path) -> None:
    for name in (paths.logs(), "locks", "halts", paths.force(), ".snakemake", "240601001"):
        (tmp_path / name).mkdir()
    assert refuse_other(tmp_path) is None
    assert begin(tmp_path) == identity(tmp_path)


def test_one_that_cannot_be_made_or_read_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match=r"cannot be made: .* A file is where a directory should be"):
        begin(tmp_path / "file" / "work")
    (tmp_path / paths.format_mark()).mkdir()
    with pytest.raises(ConfigError, match="cannot be read: Is a directory"):
        refuse_other(tmp_path)

"""JSON files detect damage by their checksum."""

from pathlib import Path

import pytest

from halfpipe.errors import FormatError, MissingInputError
from halfpipe.files.json_files import dump_json, read_json, seal_of, write_json

DEEP = b'{"a":' * 1_000_000
VALUE = {"a": 1, "b": ["c", {"d": None}]}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "file.json"
    write_json(path, VALUE)
    return path


def test_a_file_is_read_as_it_was_written(file: Path) -> None:
    assert read_json(file) == VALUE
    assert seal_of(file.read_bytes()) is not None
    assert dump_json({"b": 2, "a": 1}) == dump_json({"a": 1, "b": 2}), "equal values give equal bytes"
    file.write_text('{"a": 1}')
    assert read_json(file) == {"a": 1}, "a file of another program has no seal"


def test_every_changed_byte_is_noticed_or_harmless(file: Path) -> None:
    content = file.read_bytes()
    for at in range(len(content)):
        file.write_bytes(content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :])
        try:
            read = read_json(file)
        except FormatError:
            continue
        # The seal itself was changed, so that it is not a seal any more.
        assert {key: read[key] for key in VALUE} == VALUE
        assert at < content.index(b'": "')


@pytest.mark.parametrize(
    "content", [b"", b"{", b"{}", b"\xa7", b'{"a": 1} x', pytest.param(DEEP, id="deep"), None]
)
def test_a_damaged_or_missing_file_is_an_error(content: bytes | None, file: Path) -> None:
    file.write_bytes(content) if content is not None else file.unlink()
    with pytest.raises(MissingInputError if content is None else FormatError, match=str(file)) as error:
        read_json(file)
    assert error.value.remedy.do == ((f"rm {file}",) if content is not None else ())

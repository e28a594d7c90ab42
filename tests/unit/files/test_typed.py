"""JSON files are read as objects of one class each, and everything else is an error with the file's name."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from halfpipe.errors import FormatError, Remedy
from halfpipe.files import json_files, typed
from halfpipe.ids import ChunkId, DownlinkId, RunId, RunKind

FILE = Path("place/file.json")
REMEDY = Remedy("rm it")


class Inner(typed.Stored, frozen=True):
    chunk: ChunkId
    kind: RunKind
    place: Path | None


class Outer(typed.Stored, frozen=True):
    runs: dict[RunId, Inner]
    numbers: dict[int, float]
    downlinks: tuple[DownlinkId, ...]


ONE = Outer(
    runs={RunId("2c2e5787"): Inner(ChunkId("00001"), RunKind.LCI, Path("/there"))},
    numbers={3: 0.5},
    downlinks=(DownlinkId("230401001"),),
)


def test_an_object_is_read_as_it_was_written() -> None:
    plain = typed.values(ONE)
    content = json_files.sealed(plain)
    for found in (
        typed.decode(content, Outer, FILE),
        typed.decode(json_files.dump_json(plain).encode(), Outer, FILE),
        typed.convert(plain, Outer, FILE),
    ):
        assert found == ONE
        run, inner = next(iter(found.runs.items()))
        assert (type(run), type(inner.chunk), type(found.downlinks[0])) == (RunId, ChunkId, DownlinkId)
        assert (inner.kind, inner.place) == (RunKind.LCI, Path("/there"))
    assert plain == {
        "runs": {"2c2e5787": {"chunk": "00001", "kind": "LCI", "place": "/there"}},
        "numbers": {"3": 0.5},
        "downlinks": ("230401001",),
    }


def changed(**new: Any) -> dict[str, Any]:
    return typed.values(ONE) | new


OTHERS: dict[str, object] = {
    "an unknown key": changed(unknown=1),
    "a misspelt key": {name.replace("numbers", "number"): each for name, each in typed.values(ONE).items()},
    "a missing key": {"runs": {}, "numbers": {}},
    "an unknown key inside": changed(
        runs={"2c2e5787": {"chunk": "00001", "kind": "LCI", "place": None, "more": 1}}
    ),
    "an id of another form": changed(downlinks=["23040100"]),
    "a key of another form": changed(runs={"2C2E5787": typed.values(ONE)["runs"]["2c2e5787"]}),
    "an id that is a number": changed(downlinks=[230401001]),
    "a number as text": changed(numbers={"3": "0.5"}),
    "an unknown word": changed(runs={"2c2e5787": {"chunk": "00001", "kind": "LPC", "place": None}}),
    "a list": [1],
    "null": None,
}


@pytest.mark.parametrize("values", OTHERS.values(), ids=OTHERS)
def test_anything_else_is_an_error_with_the_files_name(values: object) -> None:
    content = json_files.dump_json(values).encode()
    readers: list[Callable[[], Outer]] = [
        lambda: typed.decode(content, Outer, FILE, REMEDY),
        lambda: typed.convert(values, Outer, FILE, REMEDY),
    ]
    for read in readers:
        with pytest.raises(FormatError, match=str(FILE)) as error:
            read()
        assert (error.value.code, error.value.remedy) == ("format", REMEDY)
        assert isinstance(error.value.__cause__, msgspec.ValidationError)


@pytest.mark.parametrize(
    "content", [b"", b"{", b"\xa7", b"{} x", pytest.param(b'{"runs":' * 1_000_000, id="deep")]
)
def test_a_damaged_file_is_an_error_with_its_name(content: bytes) -> None:
    with pytest.raises(FormatError, match=str(FILE)):
        typed.decode(content, Outer, FILE)


def test_every_changed_byte_of_a_sealed_file_is_noticed() -> None:
    content = json_files.sealed(typed.values(ONE))
    for at in range(len(content)):
        with pytest.raises(FormatError, match=str(FILE)):
            typed.decode(content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :], Outer, FILE)


def test_what_has_no_form_in_json_is_not_written() -> None:
    with pytest.raises(TypeError):
        typed.values(Outer({}, {3: np.float32(1.0)}, ()))  # type: ignore[dict-item]

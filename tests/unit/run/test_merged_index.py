"""The merged index of a run within a downlink: built from golden products, written and read again."""

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from halfpipe import paths
from halfpipe.decode.chunk_products import measure
from halfpipe.errors import FormatError, MissingInputError, StateError
from halfpipe.files.reading import sha256
from halfpipe.formats import idx, kept_index
from halfpipe.ids import ChunkId, DownlinkId, RunId
from halfpipe.run import merged_index
from halfpipe.run.merged_index import ChunkProducts, MergedIndex, load_chunks, load_datagrams, load_events
from halfpipe.run.shrinking import smaller_chunks
from tests.support.golden_cases import GOLDEN

DL, RUN = DownlinkId("240601001"), RunId("2c2e5787")


def products(directory: Path, run: RunId) -> Iterator[tuple[ChunkProducts, Path]]:
    """Yield what the decoder made of each chunk in `directory` for `run`."""
    by_chunk: dict[str, dict[str, int]] = {}
    for path in sorted(directory.glob(f"*-{run}-????-?????.*")):
        by_chunk.setdefault(path.stem[-5:], {})[path.name] = path.stat().st_size
    for chunk, files in by_chunk.items():
        yield ChunkProducts(ChunkId(chunk), files), directory


def built(case: str, downlink: str = DL, run: RunId = RUN) -> MergedIndex:
    return merged_index.build(products(GOLDEN / case / "in" / downlink, run))


def test_what_is_saved_is_read_again(tmp_path: Path) -> None:
    for number, merged in enumerate((built("multi3"), merged_index.build([]))):
        work = tmp_path / str(number)
        merged_index.save(merged, work, RUN, DL)
        part = load_events(work, RUN, DL)
        assert part.events.tobytes() == merged.table.events.tobytes()
        assert part.files == merged.table.files
        assert np.load(work / paths.events(RUN, DL)).tobytes() == merged.table.events.tobytes(), (
            "what others read"
        )
        assert load_chunks(work, RUN, DL) == merged.chunks
        read = load_datagrams(work, RUN, DL)
        assert read.lines == merged.datagrams.lines
        assert read.rows.tobytes() == merged.datagrams.rows.tobytes()
        again = {path.name: path.read_bytes() for path in (work / "runs" / RUN / DL).iterdir()}
        merged_index.save(merged, work, RUN, DL)
        assert again == {path.name: path.read_bytes() for path in (work / "runs" / RUN / DL).iterdir()}


def test_more_files_than_can_be_told_apart_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    files = len(built("multi3").table.files)
    monkeypatch.setattr(merged_index, "MOST_FILES", files - 1)
    with pytest.raises(FormatError, match=rf"\.idx: with it a downlink brings {files} event files"):
        built("multi3")


def test_a_damaged_event_part_is_named_with_the_remedy(tmp_path: Path) -> None:
    merged_index.save(built("multi3"), tmp_path, RUN, DL)
    path = tmp_path / paths.events(RUN, DL)
    good = path.read_bytes()
    for content in (b"", good[:3], good[:60], good[:-1], b"x" + good[1:], b"not an array\n"):
        path.write_bytes(content)
        with pytest.raises(StateError, match=rf"^{path}: .*halfpipe status --check --mend \d+$"):
            load_events(tmp_path, RUN, DL)
    with path.open("wb") as file:
        np.save(file, np.zeros(3, idx.DATAGRAM))
    with pytest.raises(
        StateError,
        match=rf"^{path}: .*made by another version\. To have it made again: halfpipe status --check --mend \d+$",
    ):
        load_events(tmp_path, RUN, DL)


def test_what_was_kept_of_an_index_is_taken_for_it(tmp_path: Path) -> None:
    case = "dup_same_dl"
    source = GOLDEN / case / "in" / DL
    listed = [
        (dataclasses.replace(chunk, checksums={name: sha256(source / name) for name in chunk.files}), source)
        for chunk, _ in products(source, RUN)
    ]
    without = merged_index.build(listed)

    def kept(name: str) -> Path:
        return tmp_path / name

    assert merged_index.build(listed, kept=kept).table.events.tobytes() == without.table.events.tobytes(), (
        "nothing is there yet"
    )
    for chunk, _ in listed:
        for name in chunk.files:
            if name.endswith(".idx"):
                read = idx.read_index(source / name)
                measure(read, 0)
                kept_index.keep(read, kept(name), name, chunk.checksums)
    (tmp_path / "no" / "index").mkdir(parents=True)
    elsewhere = [(chunk, tmp_path / "no" / "index") for chunk, _ in listed]
    with_it = merged_index.build(elsewhere, kept=kept)
    assert with_it.table.events.tobytes() == without.table.events.tobytes()
    assert (with_it.table.files, with_it.datagrams.lines) == (without.table.files, without.datagrams.lines)
    with pytest.raises(MissingInputError):
        merged_index.build(elsewhere)


def test_products_lie_somewhere_if_all_do_with_their_sizes(tmp_path: Path) -> None:
    chunk = ChunkProducts(ChunkId("00001"), {"a.evt": 3, "a.idx": 0})
    assert not chunk.lie_in(tmp_path / "nowhere")
    (tmp_path / "a.evt").write_bytes(b"abc")
    assert not chunk.lie_in(tmp_path)
    (tmp_path / "a.idx").touch()
    assert chunk.lie_in(tmp_path)
    (tmp_path / "a.evt").write_bytes(b"ab")
    assert not chunk.lie_in(tmp_path)


def test_chunks_whose_products_became_smaller_or_are_gone(tmp_path: Path) -> None:
    merged = built("multi3")
    merged_index.save(merged, tmp_path, RUN, DL)
    one, *others = merged.chunks
    less = dataclasses.replace(one, files={name: size - 1 for name, size in one.files.items()})
    found = [smaller_chunks(tmp_path, RUN, DL, now) for now in (merged.chunks, [less, *others], others)]
    assert found == [[], [one.chunk], [one.chunk]]


def test_an_evt_that_changed_since_it_was_decoded(tmp_path: Path) -> None:
    for path in sorted((GOLDEN / "multi3" / "in" / DL).glob(f"*-{RUN}-*")):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    listed = [
        (dataclasses.replace(chunk, checksums={name: sha256(home / name) for name in chunk.files}), home)
        for chunk, home in products(tmp_path, RUN)
    ]
    merged_index.build(listed)
    path = next(tmp_path.glob("*.evt"))
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(StateError, match=f"^{path}"):
        merged_index.build(listed)

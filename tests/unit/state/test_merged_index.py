"""The merged index of a run within a downlink, from golden products."""

from pathlib import Path

import pytest
from msgspec.structs import replace

from halfpipe import paths
from halfpipe.deliver.shrinking import smaller_chunks
from halfpipe.errors import FormatError, MissingInputError
from halfpipe.ids import DownlinkId, RunId
from halfpipe.state import merged_index
from halfpipe.state.merged_chunks import File, Placed
from halfpipe.state.merged_index import MergedIndex, events_there, keep_known, merge_chunks, without_chunks
from tests.support.golden_cases import GOLDEN, decoded

DL, RUN = DownlinkId("240601001"), RunId("2c2e5787")
Decoded = list[Placed]


@pytest.fixture
def multi3(tmp_path: Path) -> Decoded:
    return decoded(GOLDEN / "multi3" / "in" / DL, tmp_path / "in", RUN)


def test_a_saved_index_is_read_unchanged(multi3: Decoded, tmp_path: Path) -> None:
    for number, (merged, _) in enumerate((merge_chunks(multi3, {}, threads=2), merge_chunks([], {}))):
        work = tmp_path / str(number)
        merged.save(work, RUN, DL)
        read = MergedIndex.read(work, RUN, DL)
        assert read.chunks == merged.chunks
        assert read.datagrams.lines == merged.datagrams.lines
        assert read.datagrams.rows.tobytes() == merged.datagrams.rows.tobytes()
        content = (work / paths.datagrams(RUN, DL)).read_bytes()
        read.save(work, RUN, DL)
        assert (work / paths.datagrams(RUN, DL)).read_bytes() == content


def test_a_damaged_index_is_named_with_the_remedy(multi3: Decoded, tmp_path: Path) -> None:
    with pytest.raises(MissingInputError):
        MergedIndex.read(tmp_path, RUN, DL)
    merge_chunks(multi3, {})[0].save(tmp_path, RUN, DL)
    path = tmp_path / paths.datagrams(RUN, DL)
    good = path.read_bytes()
    for other in (b"", b"x" + good, good[:-1], good.replace(b"DGM", b"DGN", 1)):
        path.write_bytes(other)
        with pytest.raises(FormatError, match=f"^{path}: ") as caught:
            MergedIndex.read(tmp_path, RUN, DL)
        assert caught.value.remedy.do == (f"halfpipe status --check --repair {DL}",)
    merged = merge_chunks(multi3, {})[0]
    merged.save(tmp_path, RUN, DL)
    assert MergedIndex.read(tmp_path, RUN, DL, merged.seal).chunks == merged.chunks
    with pytest.raises(FormatError, match=f"^{path}: "):
        MergedIndex.read(tmp_path, RUN, DL, merge_chunks(multi3[1:], {})[0].seal)


def test_too_many_evt_files_are_refused(multi3: Decoded, monkeypatch: pytest.MonkeyPatch) -> None:
    files: dict[Path, int] = {}
    merge_chunks(multi3, files)
    monkeypatch.setattr(merged_index, "MOST_FILES", len(files) - 1)
    with pytest.raises(FormatError, match=rf"\.rows: .*{len(files)} evt files"):
        merge_chunks(multi3, {})


def test_events_exist_while_all_products_exist(multi3: Decoded, tmp_path: Path) -> None:
    """In their first place, or, if the chunk was decoded again, where they are kept."""
    files: dict[Path, int] = {}
    merged, expected = merge_chunks(multi3, {})
    merged.save(tmp_path, RUN, DL)
    home, kept = tmp_path / paths.chunks(DL), tmp_path / paths.replaced(DL)
    kept.mkdir(parents=True)
    for number, (chunk, place) in enumerate(multi3):
        assert events_there(tmp_path, RUN, DL, merged, {}) is None
        for name in chunk.files:
            (place / name).rename((kept if number else home) / name)
    there = events_there(tmp_path, RUN, DL, merged, files)
    assert there is not None
    assert there.tobytes() == expected.tobytes()
    assert {path.parent for path in files} == {home, kept}
    assert list(files.values()) == list(range(len(files)))
    next(home.glob("*.evt")).write_bytes(b"")
    assert events_there(tmp_path, RUN, DL, merged, {}) is None


def test_published_products_are_kept_when_they_are_replaced(multi3: Decoded, tmp_path: Path) -> None:
    """However often a chunk is decoded: not the first products, and not those that no merge has used."""
    (chunk, place), *_ = multi3
    merge_chunks(multi3, {})[0].save(tmp_path, RUN, DL)
    home, kept = tmp_path / paths.chunks(DL), tmp_path / paths.replaced(DL)
    home.mkdir(parents=True)
    for name in chunk.files:
        (place / name).rename(home / name)
    for _ in range(2):
        keep_known(tmp_path, DL, chunk.chunk, [RUN])
        assert chunk.are_in(kept)
    for name, file in chunk.files.items():
        (home / name).unlink()
        (home / name).write_bytes(bytes(file.size))
    assert chunk.place(tmp_path, DL) == (chunk, kept), "those of the same size are of another decoding"
    for name in chunk.files:
        (home / name).write_text("not merged")
    keep_known(tmp_path, DL, chunk.chunk, [RUN])
    assert chunk.are_in(kept)
    assert chunk.place(tmp_path, DL) == (chunk, kept)


def test_chunks_with_smaller_or_missing_products_are_found(multi3: Decoded) -> None:
    before = merge_chunks(multi3, {})[0].chunks
    one, *others = before
    less = replace(one, files={name: File(file.size - 1, "") for name, file in one.files.items()})
    found = [smaller_chunks(before, now) for now in (before, [less, *others], others)]
    assert found == [[], [one.chunk], [one.chunk]]


@pytest.mark.parametrize("gone", [False, True])
def test_datagrams_of_an_ignored_chunk_stay_if_other_products_are_gone(gone: bool, multi3: Decoded) -> None:
    merged, places = merge_chunks(multi3, {})[0], {chunk.chunk: place for chunk, place in multi3}
    one, *others = merged.chunks
    left = without_chunks(merged, [one.chunk], lambda chunk: None if gone else (chunk, places[chunk.chunk]))
    assert (left.chunks, left.datagrams is merged.datagrams) == (tuple(others), gone)

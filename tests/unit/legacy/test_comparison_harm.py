"""`compare` against harm to a copy of what another system delivered: each kind is told, and each flipped byte."""

import random
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from halfpipe.errors import HalfPipeError
from halfpipe.ids import DownlinkId
from halfpipe.legacy.comparison import UNLIKE, Compared, compare
from halfpipe.settings import Settings
from tests.support.compared import BothSides
from tests.support.compared_harms import FIRST, HARMS, LEGACY, SECOND, STAGE, THEIRS, TREE, cases
from tests.support.golden_cases import GOLDEN, read_case
from tests.support.workflow import Site

TAKEOVER = Path(__file__).resolve().parents[2] / "takeover"
FLIPS = 2_000
EVERY = 12  # of the kinds of harm, and of the flips one in so many is tried every day
SEED = 19


@pytest.fixture(scope="module")
def sides(tmp_path_factory: pytest.TempPathFactory) -> BothSides:
    """A run in two downlinks, processed on both sides."""
    home = tmp_path_factory.mktemp("compared")
    both = BothSides(read_case(GOLDEN / "split2"), home, Site(home))
    both.process()
    return both


@pytest.fixture(scope="module")
def settings(sides: BothSides) -> Settings:
    return sides.site.settings


def source_of(sides: BothSides, of: str) -> Path:
    return {STAGE: sides.site.stage, LEGACY: sides.legacy.stage, TREE: TAKEOVER / "split2" / "legacy"}[of]


@pytest.mark.parametrize("of", THEIRS)
def test_a_copy_has_nothing_unexplained(of: str, sides: BothSides, settings: Settings) -> None:
    for downlink in (FIRST, SECOND) if of != TREE else (FIRST,):
        found = compare(settings, DownlinkId(downlink), source_of(sides, of))
        assert (found.unexplained, found.status) == (0, 0)


def told(settings: Settings, downlink: str, root: Path) -> Compared | None:
    """Return what is found, None if it cannot be compared: that is told as well, with status 3."""
    try:
        return compare(settings, DownlinkId(downlink), root)
    except HalfPipeError:
        return None


@pytest.mark.parametrize(
    ("name", "of"),
    [
        pytest.param(*case, marks=[] if not n % EVERY else pytest.mark.faults)
        for n, case in enumerate(cases())
    ],
)
def test_harm_is_told(name: str, of: str, sides: BothSides, settings: Settings, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(source_of(sides, of), copy)
    HARMS[name].do(copy)
    found = told(settings, HARMS[name].shows, copy)
    assert found is None or found.status == UNLIKE
    assert found is None or not [group for group in found.groups if group.defect]


def compared_files(of: str, root: Path) -> Iterator[Path]:
    """Yield the files of the first downlink that are compared: event files, texts, the legacy's records of a run."""
    home = root / FIRST
    if of == TREE:
        yield from (path for path in (home / "741234567").iterdir() if not path.name.startswith("evt-"))
    else:
        yield from (home / "r0741234567").iterdir()
    yield from home.glob(f"*_{FIRST}.txt") if of != TREE else home.glob(f"[!r]*_{FIRST}.txt")


@pytest.mark.parametrize("some", [pytest.param(False, marks=pytest.mark.faults), True], ids=["all", "some"])
@pytest.mark.parametrize("of", THEIRS)
def test_a_flipped_byte_is_told(
    of: str, some: bool, sides: BothSides, settings: Settings, tmp_path: Path
) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(source_of(sides, of), copy)
    whole = {path: path.read_bytes() for path in sorted(compared_files(of, copy))}
    whole = {path: content for path, content in whole.items() if content}
    chosen, untold = random.Random(SEED), []
    for _ in range(FLIPS // len(THEIRS) // (1 if not some else 10 * EVERY) + 1):
        path = chosen.choice(list(whole))
        content = bytearray(whole[path])
        at = chosen.randrange(len(content))
        content[at] ^= chosen.randrange(1, 256)
        path.write_bytes(content)
        found = told(settings, FIRST, copy)
        if found is not None and found.status != UNLIKE:
            untold.append((path.name, at, whole[path][at], content[at]))
        path.write_bytes(whole[path])
    assert untold == []

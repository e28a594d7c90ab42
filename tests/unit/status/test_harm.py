"""Whatever is harmed, the account of every downlink is drawn up; what vouches for deliveries is missed."""

import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from halfpipe.downlink import stage_mark
from halfpipe.errors import ConfigError
from halfpipe.paths import copies
from halfpipe.status.overview import known, overview
from halfpipe.status.survey import Survey
from tests.support.board_site import HANDED_OFF, lay_out
from tests.support.workflow import Site

HARMS: Mapping[str, Callable[[Path], object]] = {
    "gone": lambda _: None,
    "rubbish": lambda path: path.write_bytes(b"\xff\0 rubbish {"),
    "a loop": lambda path: path.symlink_to(path.name),
    "a directory": Path.mkdir,
    "a list": lambda path: path.write_text("[1, 2]\n"),
}


@pytest.fixture
def whole(worked: Callable[..., Site]) -> Site:
    return lay_out(worked(*HANDED_OFF))


def codes(site: Site) -> dict[str, list[str]]:
    survey = Survey(site.settings)
    found = overview(survey, known(survey))
    causes: dict[str, list[str]] = {
        one.downlink: [cause.code for cause in one.causes] for one in found.accounts
    }
    causes["site"] = [cause.code for cause in found.site]
    try:
        stage_mark.refuse(site.settings)  # as every verb does first
    except ConfigError:
        causes["site"].append("refused")
    return causes


@contextmanager
def harmed(path: Path, harm: str, aside: Path) -> Iterator[None]:
    path.rename(aside)
    HARMS[harm](path)
    yield
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    path.unlink(missing_ok=True)
    aside.rename(path)


@pytest.mark.parametrize("harm", HARMS)
def test_each_file_and_directory(whole: Site, harm: str, tmp_path: Path) -> None:
    before = codes(whole)
    # Without its marks, or with a damaged one, a working directory is not looked at.
    spared = {"logs", "settings", ".snakemake", "leases", "chunks", "copies", "format.json", "stage-mark"}
    paths = [
        path.relative_to(whole.work)
        for path in sorted(whole.work.rglob("*"))
        if spared.isdisjoint(path.relative_to(whole.work).parts) and not path.name.startswith("RetDef")
    ]
    assert len(paths) >= 19
    silent = set[str]()
    for name in paths:
        if harm == "a directory" and (whole.work / name).is_dir():
            continue
        with ExitStack() as held:
            # Of a record both copies are harmed: one alone is mended from the other without a word.
            for number, path in enumerate((whole.work / name, whole.work / copies(str(name)))):
                if path.exists():
                    held.enter_context(harmed(path, harm, tmp_path / f"{number}"))
            if codes(whole) == before:
                silent.add(str(name))
    assert codes(whole) == before, "all is back"
    done_without = {"manifest.json"}  # nothing reads it
    if harm in {"rubbish", "a list"}:
        done_without.add("datagrams.idx")
    assert {name for name in silent if Path(name).suffix and Path(name).name not in done_without} == set()
    places = {Path(name) for name in silent if "." not in name}
    assert harm == "gone" or not {place for place in places if place.parts[0] == "runs"}


def test_what_was_decoded_of_a_downlink_is_missed(whole: Site, tmp_path: Path) -> None:
    before = codes(whole)
    handed_off = [path.name.removeprefix("dl=") for path in whole.work.glob("dl=*")]
    for dl in handed_off:
        with harmed(whole.work / dl, "gone", tmp_path / dl):
            for _ in range(2):  # the first look repairs its records
                assert ("damaged" in codes(whole)[dl]) == (dl in before), dl
    assert codes(whole) == before

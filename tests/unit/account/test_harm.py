"""Whatever is harmed, the account of every downlink is drawn up; what vouches for deliveries is missed."""

import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from halfpipe.account.account import Site as Looked
from halfpipe.account.overview import known, overview
from tests.support.board_site import lay_out
from tests.support.workflow import Site

HARMS: Mapping[str, Callable[[Path], object]] = {
    "gone": lambda _: None,
    "rubbish": lambda path: path.write_bytes(b"\xff\0 rubbish {"),
    "a loop": lambda path: path.symlink_to(path.name),
    "a directory": Path.mkdir,
    "a list": lambda path: path.write_text("[1, 2]\n"),
}
# Made again when they are wanted, looked at by `halfpipe check`, or told of in pictures only.
DONE_WITHOUT = {
    *("chunks.json", "datagrams.idx", "events.npy", "index.json"),
    *("handoff.json", "manifest.json", "times.jsonl", "001.json"),
}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Site:
    return lay_out(tmp_path_factory.mktemp("harm") / "site")


def codes(site: Site) -> dict[str, list[str]]:
    shutil.rmtree(site.work / ".cache", ignore_errors=True)
    looked = Looked(site.settings)
    found = overview(looked, known(looked))
    return {one.downlink: [cause.code for cause in one.causes] for one in found.accounts} | {
        "site": [cause.code for cause in found.site]
    }


@pytest.mark.parametrize("harm", HARMS)
def test_each_file_and_directory(whole: Site, harm: str, tmp_path: Path) -> None:
    before = codes(whole)
    # Without its marks, or with a damaged one, a working directory is not looked at.
    spared = {
        "logs",
        "settings",
        ".cache",
        ".snakemake",
        "leases",
        "chunks",
        "format.json",
        "stage-mark.json",
    }
    paths = [
        path.relative_to(whole.work)
        for path in sorted(whole.work.rglob("*"))
        if spared.isdisjoint(path.relative_to(whole.work).parts) and not path.name.startswith("RetDef")
    ]
    assert len(paths) > 25
    silent = set[str]()
    for number, name in enumerate(paths):
        if harm == "a directory" and (whole.work / name).is_dir():
            continue
        site = whole.clone(tmp_path / str(number))
        path = site.work / name
        shutil.rmtree(path) if path.is_dir() else path.unlink()
        HARMS[harm](path)
        if codes(site) == before:
            silent.add(str(name))
    assert {name for name in silent if Path(name).suffix and Path(name).name not in DONE_WITHOUT} == set()
    assert harm == "gone" or not {
        name for name in silent if Path(name).parts[0] == "runs" and "." not in name
    }

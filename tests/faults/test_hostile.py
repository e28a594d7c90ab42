"""Names, texts and sizes from outside: none leads out of `paths.work` and `paths.stage`, and no shell sees them.

A file that is large, or claims to be, is refused or read bit by bit. The large files are sparse and take no disk space.
"""

import os
import re
import shlex
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from halfpipe import paths
from halfpipe.decode.chunk_products import check_products, publish_products
from halfpipe.errors import DecoderError, FormatError, MissingInputError
from halfpipe.formats import archive_hours, met
from halfpipe.formats.retdef import read_retdef
from halfpipe.ids import ChunkId, DownlinkId, RunId
from halfpipe.plan.outstanding import outstanding
from halfpipe.plan.plan import Plan, retdef_to_stage
from halfpipe_simulator import packet_reader
from halfpipe_simulator.packet_reader import read_datagrams
from halfpipe_simulator.packets import make_packet
from tests.support.golden_cases import GOLDEN
from tests.support.in_process import ROOT
from tests.support.settings import plan_of
from tests.support.watch import at_once, watched
from tests.support.workflow import REPLAY, Site

DL, CHUNK, RUN = DownlinkId("240601001"), ChunkId("00003"), RunId("2c2e6cc0")
GIB = 1 << 30
SOURCE = GOLDEN / "multi3" / "in" / DL
STEM = f"00770155-{RUN}-0965-{CHUNK}"
EVT, IDX = f"{STEM}.evt", f"{STEM}.idx"
RETDEF = f"RetDef-{DL}-{CHUNK}.xml"
SHELL = ("; touch evil", "$(touch evil)", "'; touch evil; '", "{level0} {wildcards.dl} {0} {")


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """Good products of a chunk, in a directory as a decoder leaves it."""
    home = tmp_path / "site" / "out"
    home.mkdir(parents=True)
    for name in (EVT, IDX):
        shutil.copy(SOURCE / name, home / name)
    return home


def refused(out: Path) -> str:
    """Return why the products are refused. The check waits for nothing and touches nothing outside."""
    with watched(out.parent), at_once(), pytest.raises(DecoderError) as caught:
        check_products(out, CHUNK)
    return str(caught.value)


def _linked(path: Path) -> None:
    elsewhere = path.parent.parent / f"elsewhere{path.suffix}"
    path.rename(elsewhere)
    path.symlink_to(elsewhere)


# What can be in the place of a file, besides a link to one.
NO_FILES: dict[str, Callable[[Path], None]] = {
    "not a regular file": os.mkfifo,
    "Is a directory": Path.mkdir,
    "no such RetDef": lambda path: path.symlink_to("/nowhere/at/all"),
}


@pytest.mark.parametrize("name", [EVT, IDX])
def test_a_product_must_be_a_plain_file(out: Path, name: str) -> None:
    _linked(out / name)
    assert refused(out).startswith(f"{name}: ")
    for number, replace in enumerate(NO_FILES.values()):
        (out / name).rename(out.parent / str(number))
        replace(out / name)
        assert refused(out).startswith(f"{name}: ")


@pytest.mark.parametrize(
    "name",
    ["events.evt", f"{STEM}.rows", f"{STEM}.evt\n.evt", f"..{EVT}", f"{STEM}\x1b[2J\udcff.idx", "-rf.idx"],
)
def test_a_product_must_have_the_name_of_a_product(out: Path, name: str) -> None:
    (out / name).write_bytes(b"")
    said = refused(out)
    assert "<ground id>" in said
    assert said.isprintable()
    assert said.isascii()


def test_only_products_are_taken_and_no_link_is_followed(out: Path) -> None:
    precious = out.parent.parent / "precious"
    precious.mkdir()
    (precious / "file").write_text("kept")
    (out / "link").symlink_to(precious)
    (out / "notes.txt").symlink_to(precious / "file")
    os.mkfifo(out / "pipe")
    home = out.parent / "chunks"
    home.mkdir()
    other = "00770155-2c2e8430-0956-00004.evt"
    for name in ("00770155-2c2e8430-0956-00003.evt", other, "00003.json"):  # the first one was decoded before
        (home / name).write_text("x")
    with watched(out.parent), at_once():
        assert len(check_products(out, CHUNK)) == 3
        publish_products(out, home, CHUNK)
    assert {path.name for path in home.iterdir()} == {EVT, IDX, f"{STEM}.rows", other, "00003.json"}
    assert not out.exists()
    assert (precious / "file").read_text() == "kept"


def search_path(tmp_path: Path, chunks: int = 3) -> tuple[Plan, Path]:
    """Return a plan, and the directory with good RetDefs of a downlink on its search path."""
    home = tmp_path / "retdefs" / DL
    home.mkdir(parents=True)
    for number in range(1, chunks + 1):
        name = f"RetDef-{DL}-{number:05d}.xml"
        shutil.copy(SOURCE / name, home / name)
    return plan_of(tmp_path / "work", tmp_path / "retdefs"), home


@pytest.mark.parametrize("why", NO_FILES)
def test_a_retdef_that_is_not_a_file_is_named_and_stops_no_other(tmp_path: Path, why: str) -> None:
    plan, home = search_path(tmp_path)
    (home / RETDEF).unlink()
    NO_FILES[why](home / RETDEF)
    with watched(tmp_path), at_once():
        found = plan.of(DL)
        (said,) = map(str, found.unreadable)
        assert str(home / RETDEF) in said
        assert why in said
        assert set(found.runs) == {RunId("2c2e5787")}
        with pytest.raises((FormatError, MissingInputError), match=re.escape(DL)):
            retdef_to_stage(plan.settings, DL, CHUNK)
        assert outstanding(plan, 2e9).ready == (DL,)
        with pytest.raises((FormatError, MissingInputError), match=re.escape(str(home / RETDEF))):
            read_retdef(home / RETDEF)


def test_a_linked_retdef_is_copied_and_a_linked_secret_is_not(tmp_path: Path) -> None:
    plan, home = search_path(tmp_path)
    _linked(home / RETDEF)
    assert retdef_to_stage(plan.settings, DL, CHUNK) == (SOURCE / RETDEF).read_bytes()
    secret = tmp_path / "secret"
    secret.write_text("hunter2 is the password\n")
    (home / RETDEF).unlink()
    (home / RETDEF).symlink_to(secret)
    with pytest.raises(FormatError) as caught:
        retdef_to_stage(plan.settings, DL, CHUNK)
    assert "hunter2" not in str(caught.value)


def evil(*homes: Path) -> list[Path]:
    """Return the files that a shell made, which should have seen nothing."""
    every = (path for home in (*homes, ROOT) for path in home.glob("evil*"))
    return [path for path in every if re.fullmatch(r"evil[0-9]*", path.name)]


MISSPELT = (
    *(f"dl=230401001{text}" for text in SHELL),
    *("dl=--help", "dl=--log=evil", "dl=23040100\n1", "dl=٢٣٠٤٠١٠٠١", "dl=24060100", "dl=2024-06-31"),
    *("submit=2406010010", "pictures=24060100a"),
)


def test_misspelt_targets_are_named_and_not_interpreted(site: Site) -> None:
    """They fail alone: the downlink beside them is handed off."""
    site.replay(SOURCE.parent, DL)
    for targets in (MISSPELT[:4], MISSPELT[4:8], MISSPELT[8:]):  # so many causes a command prints
        ended = site.snakemake(f"dl={DL}", *targets)
        assert ended.status == 1
        assert [each for each in targets if repr(each.partition("=")[2]) not in ended.said] == []
    assert site.has_receipt(DL)
    before = site.tree()
    for target in (f"{DL}/chunks/00099.json", f"runs/00000001/{DL}/manifest.json"):
        site.snakemake(target).bad(target)
    assert site.tree() == before
    assert not (site.work / "runs" / "00000001").exists()
    for target in (DL, "dl=../../evil", "../evil", "runs/../../evil/240601001/manifest.json"):
        assert site.snakemake(target).status != 0
    assert evil(site.home, site.work) == []
    assert [path.name for path in site.work.glob("*=*")] == [f"dl={DL}"]
    assert {path.name for path in site.stage.iterdir()} == {DL, "chunktokens", paths.STAGE_MARK}


def test_a_whole_downlink_among_nasty_names(tmp_path: Path) -> None:
    site = Site(tmp_path / 'it\'s $(touch evil1) `touch evil2`; touch evil3 & "x" #')
    site.stage = site.home / "{y}"  # not paths.work, which is part of the names of targets
    site.configure(paths={"stage": str(site.stage)})
    source = site.home / "source; touch evil4"
    (source / DL).mkdir(parents=True)
    for path in (GOLDEN / "runid_small" / "in" / DL).iterdir():
        shutil.copy(path, source / DL / path.name)
        if path.suffix == ".xml":
            arch = re.sub(
                rb"(<arch[^>]*>)[^<]*", rb"\1/$(touch evil5); touch evil6 `touch evil7`", path.read_bytes()
            )
            (source / DL / path.name).write_bytes(arch)
    (site.home / "moot.txt").write_text("r0741234567 1 $(touch\nr0741234567 1 `touch${IFS}evil8`\n")
    site.configure(
        decoder={"command": shlex.join(["sh", str(REPLAY), "--source", str(source), "-k{level0}"])},
        magic7={"command": None},
        moot={"file": str(site.home / "moot.txt")},
    )
    site.configure(paths={"map": {"/$(touch evil9)": "/`touch evil9`"}})
    site.add_retdefs(source, DL)
    site.process(DL)
    expected = GOLDEN / "runid_small" / "expect" / f"01-{DL}" / "stage"
    names = sorted(str(path.relative_to(expected)) for path in expected.glob("r*/*.evt"))
    assert sorted(site.staged(DL)) == names
    assert evil(tmp_path, site.home, site.work, site.stage) == []


def sparse(path: Path, size: int, *pieces: tuple[int, bytes]) -> Path:
    """Write a file of `size` bytes, zeros but for `pieces`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        for at, content in pieces:
            file.seek(at)
            file.write(content)
        file.truncate(size)
    return path


@pytest.mark.workflow
def test_a_level0_file_of_gigabytes_of_nothing(tmp_path: Path) -> None:
    hour = 1680318000  # 2023-04-01 03:00 UTC, Unix seconds
    met_of = int(met.unix_to_met(hour))
    one, other = (
        make_packet(
            apid=956,
            seq=n,
            seconds=met_of + 10,
            microseconds=n,
            flags=packet_reader.Flags.ALONE,
            body=body * 100,
        )
        for n, body in ((1, b"x"), (2, b"y"))
    )
    path = archive_hours.hour_path(tmp_path, 77, hour) / packet_reader.file_name(77, 956, met_of, 1)
    sparse(path, GIB, (0, one), (GIB - len(other) - 7, other))
    with watched(tmp_path):
        found = read_datagrams(tmp_path, 77, 956, [(hour, hour + 60)])
        assert [found.payload(number)[:1] for number in range(len(found))] == [b"x", b"y"]
    assert len(found.faults) == 2  # the hole, and what follows the second packet
    assert all(str(path) in str(fault) for fault in found.faults)

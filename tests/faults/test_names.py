"""Names and texts from outside: none leads out of `paths.work` and `paths.stage`, no shell sees any."""

import io
import json
import logging
import os
import re
import shlex
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable
from contextlib import chdir
from pathlib import Path

import pytest

from halfpipe.decode.chunk_products import check_products, take_products
from halfpipe.decode.decode_chunk import decode
from halfpipe.downlink.plan import Plan, retdef_to_stage
from halfpipe.downlink.plan_causes import outstanding
from halfpipe.downlink.texts import texts
from halfpipe.errors import ConfigError, DecoderError, FormatError, HalfPipeError, MissingInputError
from halfpipe.formats import evt
from halfpipe.formats.level0 import retrieve
from halfpipe.formats.retdef import parse_retdef, read_retdef
from halfpipe.ids import ChunkId, DownlinkId, RunId
from halfpipe.run import moot_keys
from halfpipe.settings import Decoder, Paths, Settings, downlinks
from halfpipe_simulator.scenario import Scenario
from tests.support.golden_cases import GOLDEN
from tests.support.in_process import ROOT
from tests.support.settings import plan_of
from tests.support.watch import at_once, watched
from tests.support.workflow import REPLAY, Site

DL, CHUNK = DownlinkId("240601001"), ChunkId("00003")
SOURCE = GOLDEN / "multi3" / "in" / DL
STEM = "00770155-2c2e6cc0-0965-00003"
EVT, IDX = f"{STEM}.evt", f"{STEM}.idx"
RETDEF = f"RetDef-{DL}-{CHUNK}.xml"
SHELL = (
    "; touch evil",
    "$(touch evil)",
    "`touch evil`",
    "'; touch evil; '",
    '"; touch evil; "',
    "| touch evil #",
    "&& touch evil",
    "> evil",
    "{level0} {wildcards.dl} {0} {",
    "* ? [a-z] ~ ! \\ ^ %s",
)


@pytest.fixture(autouse=True)
def _heard(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logging.getLogger("halfpipe"), "propagate", True)


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """Good products of a chunk, in a directory as a decoder leaves it."""
    home = tmp_path / "site" / "out"
    home.mkdir(parents=True)
    for name in (EVT, IDX):
        shutil.copy(SOURCE / name, home / name)
    return home


def refused(out: Path, error: type[HalfPipeError] = DecoderError) -> str:
    """Return why the products are refused; nothing is waited for, nothing outside is touched."""
    with watched(out.parent), at_once(), pytest.raises(error) as caught:
        check_products(out, CHUNK)
    return str(caught.value)


def _linked(path: Path) -> None:
    elsewhere = path.parent.parent / f"elsewhere{path.suffix}"
    path.rename(elsewhere)
    path.symlink_to(elsewhere)


def _pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def _directory(path: Path) -> None:
    path.unlink()
    path.mkdir()


def _socket(path: Path) -> None:
    path.unlink()
    with socket.socket(socket.AF_UNIX) as made, chdir(path.parent):  # a socket's path must be short
        made.bind(path.name)


def _nowhere(path: Path) -> None:
    path.unlink()
    path.symlink_to("/nowhere/at/all")


def _endless(path: Path) -> None:
    path.unlink()
    path.symlink_to("/dev/zero")


@pytest.mark.parametrize("name", [EVT, IDX])
@pytest.mark.parametrize("spoil", [_linked, _pipe, _directory, _socket, _nowhere, _endless])
def test_a_product_is_a_plain_file(out: Path, name: str, spoil: Callable[[Path], None]) -> None:
    spoil(out / name)
    assert refused(out).startswith(f"{name}: the decoder wrote a link, a pipe or a directory under this name")


@pytest.mark.parametrize(
    "name",
    [
        "x.evt",
        f"{STEM}.evt\n.evt",
        f"\n{EVT}",
        f"{STEM}.EVT.evt",
        f"..{EVT}",
        f"{STEM}\x1b[2J.evt",
        f"{STEM}\udcff.idx",
        STEM.replace("-0965-", "-٠٩٦٥-") + ".evt",
        "$(touch evil).evt",
        "-rf.idx",
    ],
)
def test_a_product_has_a_products_name(out: Path, name: str) -> None:
    (out / name).write_bytes(b"")
    said = refused(out)
    assert "not a product's name" in said
    assert said.isprintable()
    assert said.isascii()


@pytest.mark.parametrize(
    "name",
    [
        b"../../etc/passwd",
        b"/etc/passwd",
        b"..",
        b"/",
        b"../..",
        b"\x1b[2J",
        b"\xff",
        b"a\x00b",
        b"../elsewhere.evt",
    ],
)
def test_an_index_leads_nowhere_but_beside_itself(out: Path, name: bytes) -> None:
    shutil.copy(SOURCE / EVT, out.parent / "elsewhere.evt")
    content = (out / IDX).read_bytes()
    last = content.rindex(EVT.encode())
    begin = content.rindex(b" ", 0, last) + 1
    (out / IDX).write_bytes(content[:begin] + name + content[last + len(EVT) :])
    said = refused(out, FormatError)
    assert "which the decoder did not write beside it" in said or "expected the name of an event file" in said
    assert str(out / IDX) in said
    assert said.isprintable()


def test_what_else_a_decoder_leaves_is_not_taken_nor_followed(out: Path) -> None:
    precious = out.parent.parent / "precious"
    precious.mkdir()
    (precious / "file").write_text("kept")
    (out / "link").symlink_to(precious)
    (out / "notes.txt").symlink_to(precious / "file")
    os.mkfifo(out / "pipe")
    home = out.parent / "chunks"
    home.mkdir()
    with watched(out.parent), at_once():
        assert len(check_products(out, CHUNK)) == 2
        take_products(out, home, CHUNK)
    assert sorted(path.name for path in home.iterdir()) == [f"{CHUNK}.crc32", EVT, IDX]
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


@pytest.mark.parametrize(
    ("spoil", "why"),
    [
        (_pipe, "not a regular file"),
        (_socket, "cannot be read"),
        (_directory, "Is a directory"),
        (_endless, "not a regular file"),
        (_nowhere, "no such RetDef"),
    ],
)
def test_a_retdef_that_is_no_file_is_named_and_stops_nothing(
    tmp_path: Path, spoil: Callable[[Path], None], why: str
) -> None:
    plan, home = search_path(tmp_path)
    spoil(home / RETDEF)
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


@pytest.mark.parametrize(
    "name",
    [
        f"RetDef-{DL}-00004.xml\n",
        f"RetDef-{DL}-00004.xml.xml",
        f"\nRetDef-{DL}-00004.xml",
        f"RetDef-{DL}-0004.xml",
        f"RetDef-{DL}-٠٠٠٠٤.xml",
        f"RetDef-{DL}-$(touch evil).xml",
        f"RetDef-{DL}-00004\udcff.xml",
        "RetDef-..-00004.xml",
    ],
)
def test_other_names_are_no_retdefs(tmp_path: Path, name: str) -> None:
    plan, home = search_path(tmp_path)
    shutil.copy(SOURCE / RETDEF, home / name)
    assert plan.of(DL).chunks == ("00001", "00002", "00003")
    (home.parent / "240601002\n").mkdir()
    (home.parent / "..240601002").mkdir()
    assert outstanding(plan, 2e9).ready == (DL,)


def _with_arch(arch: str) -> bytes:
    text = (SOURCE / RETDEF).read_text()
    escaped = arch.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return re.sub(r"(<arch[^>]*>)[^<]*", lambda match: match[1] + escaped, text).encode()


@pytest.mark.parametrize("text", SHELL)
def test_no_shell_sees_the_archive_of_a_retdef(tmp_path: Path, text: str) -> None:
    path = tmp_path / RETDEF
    path.write_bytes(_with_arch(f"/archive{text}"))
    retdef = read_retdef(path)
    assert retdef.arch == f"/archive{text}"
    shows = tmp_path / "shows.py"
    shows.write_text("import json, sys; print(json.dumps(sys.argv[1:]))")
    command = shlex.join([sys.executable, str(shows), "--archive={level0}", "{level0}"])
    at = Paths(work=tmp_path / "work", stage=tmp_path / "stage", map={"/archive": "/archive"})
    settings = Settings(at, decoder=Decoder(command, latc="-k; touch evil"))
    log = io.StringIO()
    out = tmp_path / "out"
    decode(settings, path, retdef, out, log)
    root = f"/archive{text}"
    words = [f"--archive={root}", root, "-r", str(path), "-o", str(out), "-k", "-k; touch evil"]
    assert json.loads(log.getvalue()) == words
    assert sorted(p.name for p in tmp_path.iterdir()) == [RETDEF, "out", "shows.py"]


@pytest.mark.parametrize(
    "arch", ["--level0", "archive", "", "../archive", "/a&#10;b", "/a&#9;b", "/a&#x85;b", "/a&#x202e;b"]
)
def test_an_archive_is_an_absolute_path_without_control_characters(arch: str) -> None:
    content = re.sub(rb"(<arch[^>]*>)[^<]*", rb"\g<1>" + arch.encode(), (SOURCE / RETDEF).read_bytes())
    with pytest.raises(FormatError, match="expected the absolute path of a level-0 archive"):
        parse_retdef(content, Path(RETDEF))


def test_a_pipe_in_the_archive_is_not_waited_for(tmp_path: Path) -> None:
    scenario = Scenario(seed=1, magic7=False)
    simulation = scenario.lpa_run(events=20, epus=(956,)).write(tmp_path / "simulated")
    (path,) = simulation.level0.rglob("s0077a0956t*")
    chunk = simulation.chunks[0]
    _pipe(path)
    with at_once(), pytest.raises(MissingInputError, match=f"^{path}: cannot be read: not a regular file"):
        retrieve(simulation.level0, 77, 956, [(chunk.begin / 1e6, chunk.end / 1e6)])
    _linked_back = path.with_name(path.name + "x")
    _linked_back.symlink_to("/etc/passwd")  # not an archive file's name
    path.unlink()
    assert retrieve(simulation.level0, 77, 956, [(chunk.begin / 1e6, chunk.end / 1e6)]).files == ()


RUN = RunId.from_l1("r0741234567")


@pytest.mark.parametrize(
    "alias",
    ["two words", "a\x1b[2J", "a\x00b", "a\rb", "a\x0bb", "a\x85b", "a\u2028b", "ünset", "", "a" * 2000],
)
def test_an_alias_that_is_not_one_plain_word_is_passed_over(
    tmp_path: Path, alias: str, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "moot.txt"
    path.write_bytes(f"r0741234567 1 {alias}\nr0741234568 2 good\n".encode())
    assert moot_keys.read_moot(path) == {RunId.from_l1("r0741234568"): moot_keys.Moot(2, "good")}
    assert moot_keys.moot_of(RUN, path) == moot_keys.UNSET
    assert f"{path}, line 1: passed over" in caplog.text
    assert all(record.getMessage().isprintable() for record in caplog.records)


@pytest.mark.parametrize("alias", ["$(touch${IFS}evil)", "`evil`", "../../evil", "%s%n", "{run}", "a" * 900])
def test_any_other_alias_stays_a_word(tmp_path: Path, alias: str) -> None:
    path = tmp_path / "moot.txt"
    path.write_text(f"r0741234567 1 {alias}\n")
    found = moot_keys.moot_of(RUN, path)
    assert found == moot_keys.Moot(1, alias)
    manifest = {"l1_run": RUN.l1, "epus": [956], "delivered": 2, "orphans": 0, "kind": "LPA", "gaps": []}
    manifest |= {"times": [1.0, 2.0], "complete": False, "given_up": False, "files": [], "held": []}
    said = texts([manifest | {"moot": {"key": found.key, "alias": found.alias}}])
    assert said["moot_keys"] == f"{RUN.l1} 1 {alias}\n"
    header = evt.pack_header(
        runid=1, seconds=(1, 2), sequences=(1, 2), events=2, moot_key=found.key, moot_alias=found.alias
    )
    assert len(header) == evt.HEADER_SIZE
    assert header[112:].rstrip(b"\0") == alias.encode()[:63]
    assert header[-1] == 0


@pytest.mark.parametrize(
    "value", ["230401001; touch evil", "$(id)", "../../x", "230401001\n\x00", "٢٣٠٤٠١٠٠١"]
)
def test_ids_in_the_config(value: str) -> None:
    with pytest.raises(ConfigError, match="is not a downlink id"):
        downlinks([value])


def evil(*homes: Path) -> list[Path]:
    """Return whatever a shell made that should have seen nothing."""
    every = (path for home in (*homes, ROOT) for path in home.glob("evil*"))
    return [path for path in every if re.fullmatch(r"evil[0-9]*", path.name)]


MISSPELT = (
    *(f"230401001{text}" for text in SHELL if "/" not in text),
    *(text for text in SHELL if "/" not in text),
    "--help",
    "--log=evil",
    "-",
    "..",
    "23040100\n1",
    "é",
    "٢٣٠٤٠١٠٠١",
    "".join(map(str, range(1000, 1045))),
)


@pytest.mark.either
def test_misspelt_targets_are_told_and_not_interpreted(site: Site) -> None:
    for text in MISSPELT:
        ended = site.snakemake(f"dl={text}")
        assert ended.status == 1
        assert f"{text!r} is not a downlink id" in ended.said, text
    assert evil(site.home, site.work) == []
    made = {path.relative_to(site.work).parts[0] for path in site.work.rglob("*") if path.is_file()}
    assert made <= {"logs", ".snakemake", "settings", "format.json"}
    assert not site.stage.exists()


@pytest.mark.either
@pytest.mark.parametrize("target", ["dl=../../evil", "../evil", "runs/../../evil/240601001/manifest.json"])
def test_targets_do_not_lead_out(site: Site, target: str) -> None:
    ended = site.snakemake(target)
    assert ended.status != 0
    assert "MissingRuleException" in ended.said
    assert evil(site.home, site.work, site.home.parent) == []


@pytest.mark.either
def test_a_whole_downlink_among_nasty_names(tmp_path: Path) -> None:
    site = Site(tmp_path / 'it\'s $(touch evil1) `touch evil2`; touch evil3 & "x" #')
    site.stage = site.home / "{y}"  # not paths.work: what Snakemake may be asked for lies below that
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
        decoder={"command": shlex.join([sys.executable, str(REPLAY), "--source", str(source), "-k{level0}"])},
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


def test_programs_take_ids_of_their_shape_only(tmp_path: Path) -> None:
    for option in (["--downlink", "../../x"], ["--downlink", DL, "--chunk", "../01"]):
        command = [
            sys.executable,
            str(ROOT / "scripts" / "stage_retdef.py"),
            "--work",
            str(tmp_path),
            *option,
        ]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 2
        assert "invalid" in done.stderr
    assert list(tmp_path.iterdir()) == []

"""The wrappers of the flight programs with stand-ins that misbehave, alone and in the workflow."""

import json
import re
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import IO

import pytest

from halfpipe.ids import ChunkId
from tests.support.flight_site import ARCH, TABLES, FlightSite, needs_container
from tests.support.golden_cases import GOLDEN, build, read_case
from tests.support.workflow import Site

DL = "240601001"
SOURCE = GOLDEN / "multi3" / "in" / DL
RETDEF = SOURCE / f"RetDef-{DL}-00001.xml"
FIRST = {path.name: path.read_bytes() for path in sorted(SOURCE.glob("*-00001.[ei]*"))}
LPA_RUN = "r0741234567"  # of chunks 1 and 2; 3 is of an LCI run, 4 and 5 of an open one
LCI_RUN = "r0741240000"


def stand_ins(home: Path, *, bare: bool = False) -> FlightSite:
    """Return stand-ins in a stand-in container, or `bare` without one, with the products of one downlink."""
    if not bare:
        needs_container()
    site = FlightSite(home / "flight")
    site.add(SOURCE.parent)
    if bare:
        site.without_container()
    return site


@pytest.fixture
def flight_site(tmp_path: Path) -> FlightSite:
    return stand_ins(tmp_path)


def wait_for(output: IO[bytes], word: bytes) -> None:
    assert any(word in line for line in output), f"the program ended without {word!r}"


def test_the_decoder_has_its_environment_and_gives_its_products(flight_site: FlightSite) -> None:
    flight_site.misbehave(c240601001_00001="environment")
    elsewhere = flight_site.home / "lscratch"
    elsewhere.mkdir()
    environment = {
        "STANDIN_SCRATCH": str(elsewhere),
        "PYTHONPATH": "/must/not/arrive",
        "LD_LIBRARY_PATH": "/nor/this",
    }
    done = flight_site.decode(RETDEF, "-k", "0x12;$(touch /tmp/pwned)", env=environment)
    assert done.returncode == 0, done.stderr
    assert flight_site.products() == FIRST
    said = json.loads(done.stdout.splitlines()[-1])
    assert said["cwd"] == "/halfpipe"
    assert said["latc"] == "0x12;$(touch /tmp/pwned)"
    assert said["argv"][1:5] == ["-r", f"/halfpipe/{RETDEF.name}", "-o", "/halfpipe/out"]
    assert said["env"].items() >= {"FMX_C_FDB": TABLES, "fmxRoot": TABLES, "TMPDIR": "/halfpipe/tmp"}.items()
    assert said["env"]["LD_LIBRARY_PATH"] == "/afs/slac/g/glast/isoc/lib"
    assert "PYTHONPATH" not in said["env"]
    assert not Path("/tmp/pwned").exists()
    assert not list(elsewhere.iterdir())
    assert flight_site.left() == []


@pytest.mark.workflow
def test_a_link_among_the_products_stays_a_link(flight_site: FlightSite) -> None:
    flight_site.misbehave(c240601001_00001="link")
    assert flight_site.decode(RETDEF).returncode == 0
    assert [path.is_symlink() for path in flight_site.out.iterdir()] == [True]


@pytest.mark.workflow
@pytest.mark.parametrize("bare", [False, True], ids=["container", "bare"])
def test_a_hanging_program_is_killed_with_its_children(bare: bool, tmp_path: Path) -> None:
    site = stand_ins(tmp_path, bare=bare)
    retdef = RETDEF
    if bare:
        retdef = site.home / RETDEF.name
        retdef.write_text(RETDEF.read_text().replace(ARCH, str(site.arch)))
    site.misbehave(c240601001_00001="deaf")
    site.configure(decoder={"seconds": 1})
    begun = time.monotonic()
    done = site.decode(retdef)
    assert done.returncode == 124
    assert time.monotonic() - begun < 20
    assert site.products() == {}
    assert site.left() == []
    assert not site.hanging()

    # A signal has the same effect at once, and gives the exit status.
    site.configure(decoder={"seconds": 60})
    site.misbehave(c240601001_00001="hang")
    for number in (signal.SIGTERM, signal.SIGINT):
        command = site.command("flight_decoder", "-r", str(retdef), "-o", str(site.out))
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
            assert process.stdout is not None
            wait_for(process.stdout, b"hangs")
            assert len(site.left()) == 1
            process.send_signal(number)
            process.communicate(timeout=20)
        assert process.returncode == 128 + number
        assert site.left() == []
        assert not site.hanging()


MAGIC = ("--arch", ARCH, "--scid", "77", "-b", "1717200000.25", "-e", "1717212000", "--lsm")


@pytest.mark.workflow
def test_magic7_of_the_program_and_its_faults(flight_site: FlightSite) -> None:
    done = flight_site.run("flight_magic7", *MAGIC)
    assert (done.returncode, done.stderr) == (0, "DiagRet: STAND-IN, the lines are SIMULATED\n")
    lines = done.stdout.splitlines()
    assert len(lines) == 80
    assert lines[0] == "2024-06-01 00:00:00.250000 ATT 738892800 0 0.5 0.5 0.5 0.5 0.000000 0.000000 0.000000"
    for mode, status in {"nothing": 1, "goodbye": 1, "hang": 124}.items():
        flight_site.misbehave(magic7=mode)
        flight_site.configure(magic7={"seconds": 1 if mode == "hang" else 60})
        done = flight_site.run("flight_magic7", *MAGIC)
        assert done.returncode == status, mode
        assert flight_site.left() == []
    flight_site.misbehave(magic7="goodbye")
    flight_site.configure(magic7={"seconds": 60, "harmless": ["DiagRet: "]})
    assert flight_site.run("flight_magic7", *MAGIC).returncode == 0


def workflow(site: Site, flight_site: FlightSite) -> None:
    """Have a site use the wrappers for a golden case."""
    build("multi3", site)
    python = shlex.quote(sys.executable)
    site.configure(
        decoder={"command": f"{python} scripts/flight_decoder.py --settings {flight_site.file}"},
        magic7={"command": f"{python} scripts/flight_magic7.py --settings {flight_site.file}"},
    )


@pytest.mark.workflow
def test_the_workflow_continues_after_programs_that_died(site: Site, flight_site: FlightSite) -> None:
    workflow(site, flight_site)
    flight_site.misbehave(
        c240601001_00001="exception",
        c240601001_00003="crash",
        c240601001_00004="scratch",
        c240601001_00005="killed",
    )
    site.snakemake(f"dl={DL}").bad(
        "exit status 139", "exit status 137", "PktRetriever exception: ", "wrote no data of "
    )
    assert not site.has_receipt(DL)
    expected = read_case("multi3").steps[0].expected
    assert site.staged(DL) == {}, "a chunk may contain any run, so no run is merged without it"
    assert flight_site.left() == []

    flight_site.misbehave(c240601001_00001="exception", magic7="half")
    site.snakemake(f"dl={DL}").bad("magic-7", "exit status 1")
    assert not site.has_receipt(DL)
    assert not list(site.stage.glob(f"{DL}/magic7*"))

    flight_site.misbehave(c240601001_00001="exception")
    site.process(DL)
    assert site.staged(DL) == expected.files
    chunks = {chunk.chunk: chunk.log for chunk in site.receipt(DL).receipt.chunks}
    first = chunks[ChunkId("00001")]
    assert first.by_kind == {"DFI": 1, "PktRetriever": 1}
    assert first.lines[1] == "DFI exception: \u00e9vent <>&\"'$(touch /pwned); `true`"
    assert all(not log.exceptions for chunk, log in chunks.items() if chunk != "00001")
    lines = site.text("magic7", DL)
    assert lines
    assert all(re.match(r"\S+ \S+ (ATT|ORB) ", line) for line in lines)
    assert flight_site.left() == []
    assert site.halted() == []

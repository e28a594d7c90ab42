"""A working directory that an earlier version has made, packed, so that a test can go on with it.

    python -m tests.support.earlier <checkout of that version, with its .venv> tests/data/<its commit>.tar.xz

gives the commands of that version as an operator does: two downlinks are finished, one of them again, with all that
is done about a hand-off; a third is half-way. What the decoder gives is put together from golden cases.
"""

import argparse
import lzma
import os
import shutil
import sqlite3
import subprocess
import sys
import tarfile
import tempfile
from contextlib import closing
from pathlib import Path
from typing import Any

from tests.support.golden_cases import take_chunk
from tests.support.workflow import REPLAY, Site

FIRST, SECOND, HALF_WAY = "240601001", "240601002", "240602001"
DOWNLINKS = (FIRST, SECOND, HALF_WAY)
SPREAD, LCI, CUT = "2c2e5787", "2c2e6cc0", "2c2e8430"
DECODER = "earlier-decoder"  # found on the path, for its command line stands in the receipts
TOPS = ("work", "stage", "online")
PLACE = "/earlier/site"  # stands in what is packed, where records name the directory that it was made in
# Chunks of the third downlink that are decoded; of another one the RetDef is staged.
BEGUN, STAGED = ("00001", "00005", "00006"), "00002"
PARTS = [  # of a golden case: downlink and chunk, and as which ones they are taken
    *[("split3", FIRST, n, FIRST, n) for n in (1, 2, 3, 4)],
    ("multi3", FIRST, 3, FIRST, 5),
    *[("split3", SECOND, n, SECOND, n) for n in (1, 2, 3)],
    *[("split3", HALF_WAY, n, HALF_WAY, n) for n in (1, 2, 3, 4)],
    *[("multi3", FIRST, n, HALF_WAY, n + 1) for n in (4, 5)],
]


def config(home: Path) -> dict[str, Any]:
    """Return the config of a site at `home`."""
    return {
        "paths": {
            "work": str(home / "work"),
            "stage": str(home / "stage"),
            "online": str(home / "online"),
            "retdef": [str(home / "retdefs")],
        },
        "decoder": {"command": DECODER},
        "magic7": {"command": None},
        "merge": {"min_events": 1},
        "moot": {"file": str(home / "moot.txt")},
        "submit": {"command": "echo createStream -S {dl} -D DOWNLINK_RAWDIR={rawdir} L1Proc"},
        "online": {"command": "echo {file} {run} {gid} {key} {alias}"},
    }


def lay_out(home: Path) -> Site:
    """Make a site in `home`: RetDefs, config, and in `bin` a decoder that is to be found on the path."""
    site = Site(home, config(home))
    products = home / "products"
    for case, downlink, number, taken_as, chunk in PARTS:
        take_chunk(case, downlink, number, products / taken_as, taken_as, chunk)
    site.add_retdefs(products, *DOWNLINKS)
    programs(home).mkdir()
    decoder = programs(home) / DECODER
    decoder.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{REPLAY}" --source "{products}" "$@"\n')
    decoder.chmod(0o755)
    (home / "moot.txt").write_text("r0741234567 2959 nomSciOps\nr0741240000 2410 nomSciOps\n")
    return site


def programs(home: Path) -> Path:
    """Return the directory of the decoder."""
    return home / "bin"


def process(checkout: Path, home: Path) -> None:
    """Give the commands, with the programs of `checkout`."""
    environment = {
        **os.environ,
        "PATH": f"{programs(home)}{os.pathsep}{os.environ['PATH']}",
        "USER": "operator",
        "LOGNAME": "operator",
    }
    for name in ("PYTHONPATH", "SNAKEMAKE_PROFILE"):
        environment.pop(name, None)

    def give(*words: str) -> None:
        print("$", *words, flush=True)
        words = (*words, "--configfile", str(home / "config.yaml"))
        subprocess.run(words, cwd=checkout, env=environment, check=True)

    snakemake = str(checkout / ".venv" / "bin" / "snakemake")
    command = checkout / ".venv" / "bin" / "halfpipe"
    online = (
        [str(command), "online"]
        if command.exists()
        else [str(command.with_name("python")), "scripts/online.py"]
    )
    give(snakemake, "-c2", f"dl={FIRST}")
    give(snakemake, "-c2", f"dl={FIRST}", "-F")
    give(snakemake, "-c2", f"{SECOND}/ledger.json", f"submit={FIRST}")
    give(*online)
    begun = [f"{HALF_WAY}/chunks/{chunk}.json" for chunk in BEGUN]
    give(
        snakemake,
        "-c2",
        *begun,
        f"runs/{CUT}/{HALF_WAY}/manifest.json",
        f"{HALF_WAY}/RetDef-{HALF_WAY}-{STAGED}.xml",
    )


def pack(home: Path, checkout: Path, out: Path) -> None:
    """Pack what was made, without logs and under another name of the places that it was made in."""
    for name in ("work/logs", "work/.snakemake/log", "work/.snakemake/backups"):
        shutil.rmtree(home / name, ignore_errors=True)
    rename(home, str(home), PLACE)
    rename(home, str(checkout), f"{PLACE}-project")

    def plain(entry: tarfile.TarInfo) -> tarfile.TarInfo:
        entry.uid = entry.gid = 0
        entry.uname = entry.gname = ""
        return entry

    with (
        lzma.open(out, "wb", preset=9 | lzma.PRESET_EXTREME) as file,
        tarfile.open(mode="w", fileobj=file) as packed,
    ):
        for top in TOPS:
            packed.add(home / top, top, filter=plain)


def unpack(packed: Path, home: Path) -> None:
    """Lay what was packed out in `home`, as if it had been made there."""
    with tarfile.open(packed) as opened:
        opened.extractall(home, filter="data")
    rename(home, PLACE, str(home))


def rename(home: Path, place: str, new: str) -> None:
    """Replace the name of a place in all records of a site and in its ledger; their times stay."""
    for path in [path for top in TOPS for path in (home / top).rglob("*") if path.is_file()]:
        times = path.stat()
        if path.suffix == ".sqlite":
            with closing(sqlite3.connect(path)) as ledger, ledger:
                rename_in(ledger, place, new)
        elif place.encode() in (content := path.read_bytes()):
            path.write_bytes(content.replace(place.encode(), new.encode()))
        os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))


def rename_in(ledger: sqlite3.Connection, place: str, new: str) -> None:
    """Replace the name of a place in all tables."""
    for (table,) in ledger.execute("SELECT name FROM sqlite_schema WHERE type = 'table'").fetchall():
        for _, column, *_ in ledger.execute("SELECT * FROM pragma_table_info(?)", (table,)).fetchall():
            ledger.execute(
                f'UPDATE "{table}" SET "{column}" = replace("{column}", ?, ?) WHERE instr("{column}", ?)',
                (place, new, place),
            )


def main() -> None:
    """Make and pack a site."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("checkout", type=Path)
    parser.add_argument("out", type=Path)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        home = Path(scratch)
        checkout = arguments.checkout.resolve()
        lay_out(home)
        process(checkout, home)
        pack(home, checkout, arguments.out)


if __name__ == "__main__":
    main()

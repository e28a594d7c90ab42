"""A faulty decoder: it copies products made before, and damages those of some chunks.

Each fault is a way to die or to break the decoder contract. ``--fault 240601001-00003=exit3`` damages only chunk 00003
of downlink 240601001. ``--bring 240601001-00003=00004`` also writes the products of chunk 00004, ``--hungry 00001=800``
uses 800 MB for chunk 00001 for some seconds, ``--slow 00002=70`` sleeps 70 s at chunk 00002, ``--pause 5`` sleeps
5 s at each chunk, and ``--after FILE`` waits for a file at each chunk.
"""

import argparse
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

HEADER = 176  # bytes of an evt file's header; the first record follows it (evt-layout)
REPLAY = Path(__file__).with_name("replay_decoder.sh")
LOST = "PktRetriever exception: lost a packet of APID 956"
CRIES = (LOST, LOST, "DFI exception: a datagram could not be unpacked")

Fault = Callable[[Path], object]  # its argument: the directory with the good products


def _one(out: Path, suffix: str) -> Path:
    return min(out.glob(f"*{suffix}"))


def _dies(_out: Path) -> None:
    print("bad_decoder: cannot go on \x1b[31m")
    sys.exit(3)


def _hangs(out: Path) -> None:
    """Wait, with a child that ignores SIGTERM."""
    subprocess.Popen(["sh", "-c", "trap '' TERM; while :; do sleep 1; done", "deaf", str(out)])
    time.sleep(300)


def _all(change: Callable[[str], str]) -> Fault:
    """Rename all products."""
    return lambda out: [path.rename(path.with_stem(change(path.stem))) for path in sorted(out.iterdir())]


def _shorter(suffix: str, by: int | None) -> Fault:
    """Cut `by` bytes from the end of a product; None: all bytes."""
    return lambda out: os.truncate(path := _one(out, suffix), path.stat().st_size - by if by else 0)


def _line_less(out: Path) -> None:
    """Remove the first event line."""
    path = _one(out, ".idx")
    lines = path.read_bytes().splitlines(keepends=True)
    lines.remove(next(line for line in lines if line.startswith(b"EVT:")))
    path.write_bytes(b"".join(lines))


def _says(field: int, change: Callable[[int, Path], int], datagram: bool = True) -> Fault:
    """Change a field of the last datagram with events, or of the last event."""

    def do(out: Path) -> None:
        path = _one(out, ".idx")
        lines = path.read_bytes().splitlines(keepends=True)
        kind = b"DGM:" if datagram else b"EVT:"
        of_kind = [n for n, line in enumerate(lines) if line.startswith(kind)]
        last = max(n for n in of_kind if not datagram or lines[n].split()[20] != b"0")
        fields = lines[last].split()
        fields[field] = str(change(int(fields[field]), _one(out, ".evt"))).encode()
        lines[last] = b" ".join(fields) + b"\n"
        path.write_bytes(b"".join(lines))

    return do


FAULTS: dict[str, Fault] = {
    "exit3": _dies,
    "hangs": _hangs,
    "sigsegv": lambda _: os.kill(os.getpid(), signal.SIGSEGV),
    "sigkill": lambda _: os.kill(os.getpid(), signal.SIGKILL),
    "exception": lambda _: print("\n".join(CRIES)),
    "nothing": lambda out: list(map(os.unlink, out.iterdir())),
    "no-evt": lambda out: _one(out, ".evt").unlink(),
    "no-index": lambda out: _one(out, ".idx").unlink(),
    "other-chunk": _all(lambda stem: stem[:-5] + "00077"),
    "other-run": _all(lambda stem: stem.replace("2c2e6cc0", "2c2e6cc1")),
    "other-epu": _all(lambda stem: stem.replace("-0965-", "-0966-")),
    "other-apid": _all(lambda stem: re.sub(r"-09(\d\d)-", r"-07\1-", stem)),
    "beyond": _says(13, lambda _, evt: evt.stat().st_size + 1000, datagram=False),
    "elsewhere": _says(13, lambda *_: HEADER, datagram=False),
    "cut-index": _shorter(".idx", 30),
    "cut": _shorter(".evt", 10),
    "empty-index": _shorter(".idx", None),
    "line-less": _line_less,
    "ends-later": _says(19, lambda value, _: value + 1000),
    "begins-later": _says(17, lambda value, _: value + 1),
    "ends-sooner": _says(19, lambda value, _: value - 1),
}


def bring(source: Path, out: Path, chunk: str, other: str) -> None:
    """Write the products of chunk `other`, too, under the number of `chunk`."""
    for path in sorted(source.glob(f"*-{other}.*")):
        content = path.read_bytes()
        if path.suffix == ".idx":
            content = content.replace(f"-{other}.evt".encode(), f"-{chunk}.evt".encode())
        (out / path.name.replace(f"-{other}.", f"-{chunk}.")).write_bytes(content)


def main() -> int:
    """Follow the decoder contract, except for the faults."""
    parser = argparse.ArgumentParser(fromfile_prefix_chars="@")
    parser.add_argument("-r", dest="retdef", type=Path, required=True)
    parser.add_argument("-o", dest="out", type=Path, required=True)
    parser.add_argument("-k", dest="latc")
    parser.add_argument("--source", type=Path, required=True)
    parser.add_argument("--pause", type=float, default=0)
    parser.add_argument("--after", type=Path, default=REPLAY)
    for option in ("--fault", "--bring", "--hungry", "--slow"):
        parser.add_argument(option, type=lambda text: text.split("="), action="append", default=[])
    given = parser.parse_args()
    name = given.retdef.stem.removeprefix("RetDef-")
    downlink, chunk = name.split("-")
    time.sleep(given.pause + float(dict(given.slow).get(chunk, 0)))
    while not given.after.exists():
        time.sleep(0.1)
    if megabytes := int(dict(given.hungry).get(chunk, 0)):
        _held = bytearray(b"\1") * (megabytes << 20)
        time.sleep(8)  # long enough for Slurm to see the memory
    words = ["sh", REPLAY, "-r", given.retdef, "-o", given.out, "--source", given.source]
    status = subprocess.run(words, check=False).returncode
    if other := dict(given.bring).get(name):
        bring(given.source / downlink, given.out, chunk, other)
    if fault := dict(given.fault).get(name):
        sys.stdout.flush()
        FAULTS[fault](given.out)
    return status


if __name__ == "__main__":
    try:
        sys.exit(main())
    except OSError as error:
        sys.exit(f"bad_decoder: {error}")

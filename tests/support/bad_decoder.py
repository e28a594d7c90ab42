"""A decoder that misbehaves: it replays products made before and spoils those of the chunks it is told to.

Each fault is one way in which a decoder can die or break its contract; ``--fault 240601001-00003=exit3``
spoils chunk 00003 of downlink 240601001 and no other.
"""

import argparse
import os
import re
import shutil
import signal
import sys
from collections.abc import Callable
from pathlib import Path

HEADER = 176  # bytes of an evt file's header; the first record follows it (evt-layout)
CRIES = (
    "PktRetriever exception: lost a packet of APID 956",
    "PktRetriever exception: lost a packet of APID 956",
    "DFI exception: a datagram could not be unpacked",
)

Fault = Callable[[Path], None]  # gets the directory with the good products


def _one(out: Path, suffix: str) -> Path:
    return next(iter(sorted(out.glob(f"*{suffix}"))))


def _dies(_out: Path) -> None:
    print("bad_decoder: cannot go on")
    sys.exit(3)


def _crashes(_out: Path) -> None:
    os.kill(os.getpid(), signal.SIGSEGV)


def _cries(_out: Path) -> None:
    print("\n".join(CRIES))


def _writes_nothing(out: Path) -> None:
    for path in out.iterdir():
        path.unlink()


def _without_evt(out: Path) -> None:
    _one(out, ".evt").unlink()


def _without_index(out: Path) -> None:
    _one(out, ".idx").unlink()


def _of_another_chunk(out: Path) -> None:
    for path in sorted(out.iterdir()):
        path.rename(path.with_stem(path.stem[:-5] + "00077"))


def _badly_named(out: Path) -> None:
    _one(out, ".evt").rename(out / "events.evt")


def _of_another_apid(out: Path) -> None:
    for path in sorted(out.iterdir()):
        path.rename(path.with_stem(re.sub(r"-09(\d\d)-", r"-07\1-", path.stem)))


def _points(out: Path, offset: int) -> None:
    """Let the last event line of the index point to byte `offset`."""
    path = _one(out, ".idx")
    lines = path.read_bytes().splitlines(keepends=True)
    last = max(number for number, line in enumerate(lines) if line.startswith(b"EVT:"))
    fields = lines[last].split()
    fields[13] = str(offset).encode()
    lines[last] = b" ".join(fields) + b"\n"
    path.write_bytes(b"".join(lines))


def _points_beyond(out: Path) -> None:
    _points(out, _one(out, ".evt").stat().st_size + 1000)


def _points_to_another(out: Path) -> None:
    _points(out, HEADER)


def _cut_index(out: Path) -> None:
    path = _one(out, ".idx")
    os.truncate(path, path.stat().st_size - 30)


def _cut(out: Path) -> None:
    path = _one(out, ".evt")
    os.truncate(path, path.stat().st_size - 10)


def _empty_index(out: Path) -> None:
    os.truncate(_one(out, ".idx"), 0)


def _without_lines(out: Path, count: int | None = None) -> None:
    """Leave the first `count` event lines out, or all."""
    path = _one(out, ".idx")
    lines = path.read_bytes().splitlines(keepends=True)
    gone = [number for number, line in enumerate(lines) if line.startswith(b"EVT:")][:count]
    path.write_bytes(b"".join(line for number, line in enumerate(lines) if number not in gone))


def _announces(out: Path, field: int, change: int) -> None:
    """Add `change` to a field of the last datagram that holds events."""
    path = _one(out, ".idx")
    lines = path.read_bytes().splitlines(keepends=True)
    last = max(
        number for number, line in enumerate(lines) if line.startswith(b"DGM:") and line.split()[20] != b"0"
    )
    fields = lines[last].split()
    fields[field] = str(int(fields[field]) + change).encode()
    lines[last] = b" ".join(fields) + b"\n"
    path.write_bytes(b"".join(lines))


FAULTS: dict[str, Fault] = {
    "exit3": _dies,
    "sigsegv": _crashes,
    "exception": _cries,
    "nothing": _writes_nothing,
    "no-evt": _without_evt,
    "no-index": _without_index,
    "other-chunk": _of_another_chunk,
    "bad-name": _badly_named,
    "other-apid": _of_another_apid,
    "beyond": _points_beyond,
    "elsewhere": _points_to_another,
    "cut-index": _cut_index,
    "cut": _cut,
    "empty-index": _empty_index,
    "line-less": lambda out: _without_lines(out, 1),
    "no-lines": _without_lines,
    "ends-later": lambda out: _announces(out, 19, 1000),
    "begins-later": lambda out: _announces(out, 17, 1),
    "ends-sooner": lambda out: _announces(out, 19, -1),
}


def replay(source: Path, out: Path, downlink: str, chunk: str) -> None:
    """Copy the products of a chunk, and say so as the contract wants it."""
    for path in sorted((source / downlink).glob(f"*-{chunk}.*")):
        if path.suffix in {".evt", ".idx"}:
            shutil.copy(path, out / path.name)
            ground, run, *_ = path.name.split("-")
            print(f"getLSEChunk: processing {ground}-{run}-")


def bring(source: Path, out: Path, downlink: str, chunk: str, other: str) -> None:
    """Write the products of the chunk `other` as well, under the number of `chunk`."""
    for path in sorted((source / downlink).glob(f"*-{other}.*")):
        content = path.read_bytes()
        if path.suffix == ".idx":
            content = content.replace(f"-{other}.evt".encode(), f"-{chunk}.evt".encode())
        (out / path.name.replace(f"-{other}.", f"-{chunk}.")).write_bytes(content)


def main() -> None:
    """Behave as the decoder contract says, but for the faults."""
    parser = argparse.ArgumentParser()
    parser.add_argument("-r", dest="retdef", type=Path, required=True)
    parser.add_argument("-o", dest="out", type=Path, required=True)
    parser.add_argument("-k", dest="latc")
    parser.add_argument("--source", type=Path, required=True)
    parser.add_argument("--fault", action="append", default=[], help="DOWNLINK-CHUNK=FAULT")
    parser.add_argument("--bring", action="append", default=[], help="DOWNLINK-CHUNK=OTHERCHUNK")
    arguments = parser.parse_args()
    match = re.fullmatch(r"RetDef-([0-9]{9})-([0-9]{5})\.xml", arguments.retdef.name)
    assert match is not None
    downlink, chunk = match.groups()
    replay(arguments.source, arguments.out, downlink, chunk)
    others = dict(item.split("=") for item in arguments.bring)
    if f"{downlink}-{chunk}" in others:
        bring(arguments.source, arguments.out, downlink, chunk, others[f"{downlink}-{chunk}"])
    faults = dict(item.split("=") for item in arguments.fault)
    if f"{downlink}-{chunk}" in faults:
        sys.stdout.flush()
        FAULTS[faults[f"{downlink}-{chunk}"]](arguments.out)


if __name__ == "__main__":
    try:
        main()
    except OSError as error:
        sys.exit(f"bad_decoder: {error}")

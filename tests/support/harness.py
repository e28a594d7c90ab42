"""What must hold after a fault, a disk that is small, and what is in event files."""

import ctypes
import json
import re
import subprocess
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from halfpipe.causes import Cause
from halfpipe.formats import evt
from halfpipe.formats.retdef import parse_retdef
from halfpipe.ids import DownlinkId, RunId
from halfpipe.legacy.evt_check import check_evt
from halfpipe.run.deliveries import Deliveries
from tests.support.workflow import Site

CLONE_NEWNS = 0x20000  # unshare(2): a mount namespace of its own
TEXT_LINES = {
    "delivered_events": r"r\d{10} \d+ \d+ (LPA|LCI)",
    "retired_runs": r"r\d{10} COMPLETE",
    "event_gaps": r"r\d{10} \d+ \d+",
    "event_times": r"r\d{10} \d+\.\d+ \d+\.\d+",
    "moot_keys": r"r\d{10} \d+ \S+",
    "simulated": "SIMULATED: .*",
}


def differing(tree: Mapping[str, bytes], expected: Mapping[str, bytes]) -> list[str]:
    """Return the names of the files that two trees have not the same."""
    return sorted(name for name in {*tree, *expected} if tree.get(name) != expected.get(name))


def half_written(site: Site) -> list[str]:
    """Say what is visible under a final name and is not whole."""
    return [f"{path}: {what}" for path, what in [*_in_work(site), *_in_stage(site)]]


def _in_work(site: Site) -> Iterator[tuple[Path, str]]:
    for path in site.work.rglob("*"):
        name = str(path.relative_to(site.work))
        if not path.is_file() or name.startswith((".snakemake/", "logs/", "leases/")) or "/." in f"/{name}":
            continue
        if path.suffix == ".json" or name.startswith("dl="):
            with suppress(ValueError):
                json.loads(path.read_bytes())
                continue
            yield path, "no JSON"
        elif path.suffix == ".xml":
            parse_retdef(path.read_bytes(), path)
        elif path.suffix == ".evt":
            yield from ((path, fault) for fault in check_evt(path).faults)
        elif path.suffix == ".npy" and path.read_bytes()[:6] != b"\x93NUMPY":
            yield path, "no array"


def _in_stage(site: Site) -> Iterator[tuple[Path, str]]:
    for home in site.stage.glob("[0-9]*"):
        delivered = {
            file.name: file.size
            for run in site.work.glob("runs/*")
            for delivery in Deliveries(site.work, RunId(run.name)).of(DownlinkId(home.name))
            for file in delivery.files
        }
        for path in home.iterdir():
            if path.is_dir():
                for file in path.iterdir():
                    if delivered.get(file.name) != file.stat().st_size:
                        yield file, f"{file.stat().st_size} bytes, recorded are {delivered.get(file.name)}"
                    faults = check_evt(file).faults
                    yield from ((file, fault) for fault in faults)
                if not list(path.iterdir()):
                    yield path, "a run without files"
            else:
                line = TEXT_LINES.get(path.name.removesuffix(f"_{home.name}.txt"), "no text")
                if not re.fullmatch(rf"({line}\n)*", path.read_text()):
                    yield path, "a line that Level-1 cannot read"


@contextmanager
def small_disk(path: Path) -> Iterator[Callable[[str], None]]:
    """Mount a disk of 64 KiB at `path`; yield what changes its options, as in ``size=8m``.

    Only this process and those that it starts see it, so that a killed test leaves no mount behind.
    """

    def mount(*words: str) -> bool:
        return subprocess.run(["mount", *words], capture_output=True, check=False).returncode == 0

    def change(options: str) -> None:
        assert mount("-o", f"remount,{options}", str(path))

    path.mkdir(parents=True)
    apart = ctypes.CDLL(None).unshare(CLONE_NEWNS) == 0 and mount("--make-rprivate", "/")
    if not apart or not mount("-t", "tmpfs", "-o", "size=64k", "halfpipe-test", str(path)):
        pytest.skip("no permission to mount a small disk")
    try:
        yield change
    finally:
        subprocess.run(["umount", "--lazy", str(path)], check=True)


def event_records(files: Iterable[Path]) -> list[bytes]:
    """Return the event records of event files, sorted."""
    return sorted(record for path in files for record in records_of(path.read_bytes()))


def records_of(content: bytes) -> list[bytes]:
    """Return the event records of an event file, in order."""
    offsets = evt.walk(np.frombuffer(content, np.uint8), "").tolist()
    return [content[a:b] for a, b in pairwise([*offsets, len(content)])]


def events_of(content: bytes) -> list[tuple[int, int]]:
    """Return sequence and APID of each event of an event file, in order."""
    data = np.frombuffer(content, np.uint8)
    offsets = evt.walk(data, "an event file")
    columns = (evt.context_column(data, offsets, name) for name in ("scalers_sequence", "ccsds_apid"))
    return list(zip(*(column.tolist() for column in columns), strict=True))


def path_of(cause: Cause) -> Path:
    """Return the file that a cause of `halfpipe.status.checks.check` is about."""
    return Path(cause.text.partition(": ")[0])

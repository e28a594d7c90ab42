"""`halfpipe status` over a whole mission of SIMULATED downlinks: processed, submitted, taken by Level-1.

`python -m benchmarks.history [NUMBER]` makes their working directory and measures: first with cold caches, then again,
then for what is open, and each frame of `halfpipe.open`. Three downlinks that share a run are simulated and processed;
all others are copies with their own ids, times and checksums.
"""

import hashlib
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from benchmarks.measure import ROOT, SNAKEMAKE, Launcher
from benchmarks.sizes import Sizes
from halfpipe import paths
from halfpipe.cli.show import TABLES
from halfpipe.config import load
from halfpipe.decisions import Decisions
from halfpipe.files.json_files import SEAL
from halfpipe.ids import DownlinkId, RunId
from halfpipe.settings import Settings
from halfpipe.staging import stage_mark
from halfpipe.state.deliveries import Deliveries
from halfpipe.state.merged_index import SEAL as INDEX_SEAL
from halfpipe.state.run_books import state_of
from halfpipe.status.overview import known, note_closed, overview
from halfpipe.status.survey import Survey

DOWNLINKS = 60_000  # about as many as the mission has
TEMPLATE = tuple(DownlinkId(f"23040100{number}") for number in (1, 2, 3))
APART = 400  # seconds from the runs of a group of three to those of the next
GROUPS_A_DAY = 3
DAY = timedelta(days=1)
PARTS = 64  # pieces of work for two processes that write a history
CLEANED_UP = {".evt", ".idx", ".rows"}
KEPT = Path(paths.datagrams("", "")).name  # cleanup never removes it
NOT_COPIED = {
    ".snakemake",
    "leases",
    "logs",
    "settings",
    paths.FORMAT_MARK,
    paths.STAGE_MARK_COPY,
}
SEALED = f'{{\n "{SEAL}": "'.encode()  # start of a JSON file, before the seal and the end of the line
DROP = Path("/proc/sys/vm/drop_caches")


@dataclass(frozen=True)
class History:
    """A site below `home` with a number of downlinks."""

    home: Path
    downlinks: int

    @property
    def groups(self) -> int:
        """Number of groups of three downlinks."""
        return -(-self.downlinks // len(TEMPLATE))

    def replacements(self, group: int) -> dict[bytes, bytes]:
        """Return the ids in a group that replace those of the template; they have the same length."""
        day, part = divmod(self.groups - 1 - group, GROUPS_A_DAY)
        date = f"{datetime.fromtimestamp(time.time(), UTC) - day * DAY:%y%m%d}"
        first = (GROUPS_A_DAY - 1 - part) * len(TEMPLATE) + 1
        return {dl.encode(): f"{date}{first + n:03}".encode() for n, dl in enumerate(TEMPLATE)}

    def place(self, group: int, number: int) -> int:
        """Return the position of a downlink in the history, from 1; below 1 the history does not contain it."""
        return self.downlinks - (self.groups - group) * len(TEMPLATE) + number + 1

    def when(self, group: int) -> float:
        """Return when a group was processed, Unix seconds."""
        return (
            datetime.fromtimestamp(time.time(), UTC) - (self.groups - 1 - group) * DAY / GROUPS_A_DAY
        ).timestamp()


def build(root: Path, downlinks: int) -> History:
    """Return a history below `root`; write it if it does not exist."""
    history = History(root / f"history-{downlinks}", downlinks)
    if not (history.home / "whole").exists():
        shutil.rmtree(history.home, ignore_errors=True)
        _write(history, _template(root / "history-template"))
        (history.home / "whole").touch()
    return history


def _template(home: Path) -> Path:
    """Simulate three downlinks, process and submit them, and take their files as Level-1 does."""
    if (home / "whole").exists():
        return home
    shutil.rmtree(home, ignore_errors=True)
    program = [
        sys.executable,
        str(ROOT / "scripts" / "simulate.py"),
        "--out",
        str(home),
        "--events",
        "900",
        "--whole",
    ]
    subprocess.run([*program, "--downlinks", *TEMPLATE], check=True, cwd=ROOT)
    with (home / "config.yaml").open("a") as config:
        config.write('submit:\n  command: "true {dl}"\nledger:\n  url: null\n')
    for target in ("dl", "submit"):
        wanted = [f"{target}={downlink}" for downlink in TEMPLATE]
        subprocess.run([SNAKEMAKE, *wanted, "--profile", home, "--quiet"], check=True, cwd=ROOT)
    for downlink in TEMPLATE:
        shutil.rmtree(home / "stage" / downlink)
    (home / "whole").touch()
    return home


def _write(history: History, template: Path) -> None:
    """Write a history: RetDefs first, because they arrive before their products."""
    history.home.mkdir(parents=True)
    for name in ("level0", "stage", "downlinks"):
        (history.home / name).mkdir()
    for path in (template / name for name in ("config.yaml", "profile.v9+.yaml", "moot.txt")):
        (history.home / path.name).write_text(path.read_text().replace(str(template), str(history.home)))
    # Level-1 has taken everything else. Seals differ here, so no seal of the template is used.
    stage_mark.note(load([history.home / "config.yaml"]), ())
    runs = _states(load([template / "config.yaml"]))
    work = [path for path in sorted((template / "work").iterdir()) if path.name not in NOT_COPIED]
    with ProcessPoolExecutor(2) as pool:
        for below in ([template / "downlinks"], work):
            files = _files(template, below)
            parts = [range(first, history.groups, PARTS) for first in range(PARTS)]
            list(pool.map(_write_groups, [history] * PARTS, parts, [files] * PARTS, [runs] * PARTS))


def _files(template: Path, below: Iterable[Path]) -> dict[str, bytes]:
    """Return the content to copy, by name in the template."""
    found = [path for home in below for path in (home.rglob("*") if home.is_dir() else [home])]
    return {
        str(path.relative_to(template)): path.read_bytes()
        for path in sorted(found)
        if path.is_file() and (path.suffix not in CLEANED_UP or path.name == KEPT)
    }


def _states(settings: Settings) -> dict[RunId, str]:
    """Return the checksum of the state of each run of a site."""
    work = settings.paths.work
    runs = sorted(RunId(path.name) for path in (work / "runs").iterdir())
    return {run: state_of(settings, Decisions(), run, Deliveries(work, run)) for run in runs}


def _write_groups(
    history: History, groups: Sequence[int], files: Mapping[str, bytes], runs: Mapping[RunId, str]
) -> None:
    """Write copies of `files`, which name `runs` and the checksums of their states, for some groups."""
    settings = load([history.home / "config.yaml"])
    # What has happened, and then what names its checksums.
    facts = {name: files[name] for name in files if "/deliveries/" in name or name.endswith(KEPT)}
    for group in groups:
        ids = history.replacements(group)
        for run in runs:
            other = RunId.from_met(run.met + group * APART)
            ids |= {run.encode(): other.encode(), str(run.met).encode(): str(other.met).encode()}
        retdefs = {
            content: _replaced(content, ids) for name, content in files.items() if name.endswith(".xml")
        }
        ids |= {_sum(before): _sum(after) for before, after in retdefs.items()}
        _write_parts(history, group, facts, ids)
        for run, state in runs.items() if facts else ():
            other = RunId(_replaced(run.encode(), ids).decode())
            recorded = Deliveries(settings.paths.work, other)
            ids[state.encode()] = state_of(settings, Decisions(), other, recorded).encode()
        _write_parts(history, group, files, ids)  # deliveries again, which name the checksum of their state


def _write_parts(history: History, group: int, files: Mapping[str, bytes], ids: dict[bytes, bytes]) -> None:
    """Write copies of `files` for a group with replaced `ids`, and add the seals to them."""
    # A record contains the seal of the one before it, a delivery that of its index, a receipt those of deliveries.
    for _, content in sorted(files.items(), key=lambda file: (_rank(file[0]), file[0])):
        if content.startswith(SEALED):
            begin, end = len(SEALED), len(SEALED) + 64
            ids[content[begin:end]] = _sum(b"{\n" + _replaced(content, ids)[end + len('",\n') :])
        elif content.startswith(INDEX_SEAL):
            begin, end = len(INDEX_SEAL), len(INDEX_SEAL) + 64
            ids[content[begin:end]] = _sum(_replaced(content, ids)[end + 1 :])
    when, places = history.when(group), set[Path]()
    for name, content in files.items():
        of = next((n for n, downlink in enumerate(TEMPLATE) if downlink in name), None)
        if of is not None and history.place(group, of) < 1:
            continue
        path, new = history.home / _replaced(name.encode(), ids).decode(), _replaced(content, ids)
        if path.parent not in places:
            path.parent.mkdir(parents=True, exist_ok=True)
            places.add(path.parent)
        path.write_bytes(new)
        os.utime(path, (when, when))
    for place in {place for path in places for place in (path, path.parent)}:
        if place.parent.name in {"downlinks", "runs"}:
            os.utime(place, (when, when))


def _rank(name: str) -> int:
    """Return a number that is higher than those of the files whose seals the file `name` contains."""
    if name.endswith(KEPT):
        return 0
    return 1 if "/deliveries/" in name else 2


def _replaced(content: bytes, ids: Mapping[bytes, bytes]) -> bytes:
    for before, after in ids.items():
        content = content.replace(before, after)
    return content


def _sum(content: bytes) -> bytes:
    return hashlib.sha256(content).hexdigest().encode()


def main() -> None:
    """Make the downlinks and measure."""
    home = Sizes.from_environment().home
    home.mkdir(parents=True, exist_ok=True)
    history = build(home, int(sys.argv[1]) if len(sys.argv) > 1 else DOWNLINKS)
    survey = Survey(load([history.home / "config.yaml"]))
    note_closed(survey, overview(survey, known(survey)).accounts)  # as a turn does
    launcher = Launcher(home)
    status = [Path(sys.executable).with_name("halfpipe"), "status", "--profile", history.home]
    sys.stdout.write(f"SIMULATED: {history.downlinks:,} downlinks in {history.home}\n")
    subprocess.run(["sync"], check=True)
    with suppress(OSError):  # only root may drop caches; otherwise they are warm
        DROP.write_text("3\n")
    # Every directory of RetDefs is new here, so the last week would be the whole mission.
    commands = {"cold": [*status, "--all"], "again": [*status, "--all"], "open": [*status, "--days", "0"]}
    site = f"import halfpipe; halfpipe.open({str(history.home / 'config.yaml')!r})"
    commands |= {name: [sys.executable, "-c", f"{site}.{name}"] for name in TABLES}
    for what, command in commands.items():
        used = launcher.run(command, statuses=(0, 1))
        peak = (used.peak or 0) / 1e6
        sys.stdout.write(f"{what:9} {used.wall:6.1f} s, {used.cpu:5.1f} s of CPU, {peak:4.0f} MB\n")
    launcher.close()


if __name__ == "__main__":
    main()

"""Decoders: programs that turn the level-0 packets of one chunk into an evt file and its index.

The contract (ground-chain §4): ``<command> -r RETDEF.xml -o OUTDIR [-k LATC]`` writes
``%08x-%08x-%04d-%05d.{evt,idx}`` (ground id, run, APID, chunk) into OUTDIR, says on its output which
runs it processes and which exceptions it met, and ends with 0 also after these.
"""

import re
import shlex
import shutil
import signal
import stat
import subprocess
import sys
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from halfpipe import progress
from halfpipe.errors import DecoderError, FormatError
from halfpipe.files import fsync_directory, fsync_file, in_the_way, remove_tree, sha256
from halfpipe.formats import evt, idx, placed
from halfpipe.formats.retdef import MAX_TIME, RetDef
from halfpipe.ids import Apid, ChunkId, RunId

BUILT_IN = "built-in"
PRODUCT = re.compile(
    rf"(?P<ground>[0-9a-f]{{8}})-(?P<run>{RunId.PATTERN})-(?P<apid>[0-9]{{4}})-(?P<chunk>{ChunkId.PATTERN})"
    r"\.(?P<kind>evt|idx)"
)
EXCEPTION = re.compile(r"\b(DFI|PktFile|PktRetriever) exception")
PROCESSING = re.compile(r"getLSEChunk: processing ([0-9a-f]{8})-([0-9a-f]{8})-")
PROGRESS = re.compile(r"progress: ([0-9]{1,15}) events, ([0-9]{1,3}(?:\.[0-9]{1,3})?) %\s*")
LINE_LIMIT = 1 << 16  # characters; a longer line is heard in pieces
GRACE_SECONDS = 10.0  # between SIGTERM and SIGKILL of a program
LINES_KEPT = 50  # of a kind that may come by the thousand; the log has them all


@dataclass(frozen=True)
class Program:
    """An external command of the config, and what its placeholders stand for.

    `level0` is the archive's root: `paths.level0` of the config if set, else what a RetDef's ``<arch>``
    says, its first matching prefix replaced by `prefixes`. Relative paths start at `root`, and ``python``
    as the first word is the one that runs this: cron's `PATH` has none, or another.
    """

    command: str
    built_in: str
    root: Path
    level0: Path | None
    prefixes: tuple[tuple[str, str], ...]

    def archive(self, arch: str) -> str:
        """Return the level-0 archive's root for a RetDef that names `arch`."""
        return str(self.level0) if self.level0 is not None else map_prefix(arch, self.prefixes)

    def arguments(self, arch: str) -> list[str]:
        """Return the command as a list of words, for a RetDef that names the archive `arch`."""
        if self.command == BUILT_IN:
            script = str(self.root / "scripts" / self.built_in)
            return [sys.executable, script]
        words = [word.replace("{level0}", self.archive(arch)) for word in shlex.split(self.command)]
        return [sys.executable, *words[1:]] if words[:1] == ["python"] else words


def map_prefix(path: str, prefixes: Sequence[tuple[str, str]]) -> str:
    """Replace the longest of `prefixes` that `path` begins with, whole path components only."""
    for old, new in sorted(prefixes, key=lambda pair: -len(pair[0])):
        if path == old.rstrip("/") or path.startswith(old.rstrip("/") + "/"):
            return new.rstrip("/") + path[len(old.rstrip("/")) :]
    return path


def decode(
    program: Program,
    retdef_file: Path,
    retdef: RetDef,
    out: Path,
    latc: str | None,
    log: IO[str],
    kept: Callable[[str], Path] | None = None,
) -> dict[str, Any]:
    """Run the decoder for one chunk and check what it made.

    Parameters
    ----------
    program
        The decoder.
    retdef_file, retdef
        The chunk's RetDef and what it holds.
    out
        Directory for the products; made anew.
    latc
        Value for ``-k``, or None.
    log
        Takes everything that the decoder prints.
    kept
        Where to keep what is read of the index of this name, for `halfpipe.formats.placed.kept`; None: nowhere.

    Returns
    -------
    dict
        ``files``: a list with name, run, apid, ground, kind, size, sha256 and, of an index, the
        numbers of its events and datagrams and whether the records lie without a hole; ``said``: the
        runs that were processed and the exceptions, counted by kind, the first ones verbatim.

    Raises
    ------
    DecoderError
        If the decoder fails or breaks the contract; the message says how.
    """
    remove_tree(out)
    try:
        out.mkdir(parents=True)
    except OSError as error:
        raise in_the_way(Path(error.filename or out), error) from error
    command = program.arguments(retdef.arch)
    if program.command == BUILT_IN:
        command += ["--level0", program.archive(retdef.arch)]
    command += ["-r", str(retdef_file), "-o", str(out)]
    if latc is not None:
        command += ["-k", latc]
    with progress.of(f"decode_chunk {retdef.chunk}") as bar, progress.watching(out, bar):
        said = run_program(command, program.root, log, retdef.run, bar)
    files = check_products(out, retdef.chunk, kept)
    return {"files": files, "said": said.summary({str(out): "OUTDIR", str(retdef_file): retdef_file.name})}


@dataclass
class _Said:
    """What a decoder printed, as far as it matters; exceptions are counted by kind and run."""

    run: str
    processing: set[str] = field(default_factory=set)
    exceptions: Counter[tuple[str, str]] = field(default_factory=Counter)
    lines: list[str] = field(default_factory=list)

    def hear(self, line: str) -> None:
        """Take one line; exceptions belong to the run that is being processed, at first the RetDef's."""
        if match := PROCESSING.search(line):
            self.run = match[2]
            if len(self.processing) < LINES_KEPT:
                self.processing.add(f"{match[1]}-{match[2]}")
        if match := EXCEPTION.search(line):
            self.exceptions[self.run, match[1]] += 1
            if len(self.lines) < LINES_KEPT:
                self.lines.append(line.strip()[:500])

    def summary(self, places: Mapping[str, str]) -> dict[str, Any]:
        """Return it as JSON; `places` are paths that differ from job to job, and what to call them."""
        lines = self.lines
        for path, name in places.items():
            lines = [line.replace(path, name) for line in lines]
        kinds: Counter[str] = Counter()
        by_run: dict[str, dict[str, int]] = {}
        for (run, kind), count in sorted(self.exceptions.items()):
            kinds[kind] += count
            by_run.setdefault(run, {})[kind] = count
        return {
            "processing": sorted(self.processing),
            "exceptions": dict(sorted(kinds.items())),
            "exceptions_by_run": by_run,
            "lines": lines,
        }


def run_program(
    command: Sequence[str], root: Path, log: IO[str], run: str = "", bar: progress.Progress | None = None
) -> _Said:
    """Run `command` in `root`, copy its output to `log` and keep what the contract defines.

    Parameters
    ----------
    command, root
        What is started and where.
    log
        Takes all output; no more than a piece of a line is ever held.
    run
        The run that exceptions belong to before the program names one.
    bar
        Is told how far the program says it is, in lines ``progress: EVENTS events, PERCENT %``, which no
        decoder needs to print and `log` does not get.

    Raises
    ------
    DecoderError
        If it cannot be started or does not end with 0.
    """
    said = _Said(run)
    last: deque[str] = deque(maxlen=5)
    try:
        process = subprocess.Popen(
            command,
            cwd=root,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
        )
    except OSError as error:
        raise DecoderError(
            f"{command[0]}: cannot be started: {error.strerror}. Check the command in the config."
        ) from error
    with process, ended_with_us(process):
        assert process.stdout is not None
        while line := process.stdout.readline(LINE_LIMIT):
            if bar is not None and (match := PROGRESS.fullmatch(line)):
                bar.reached(events=int(match[1]), part=float(match[2]) / 100)
                continue
            log.write(line)
            last.append(line.rstrip()[:500])
            said.hear(line)
    log.flush()
    if process.returncode:
        raise DecoderError(
            f"the decoder {how_it_ended(process.returncode)}: {shlex.join(command)}\n"
            f"Its last lines were:\n{chr(10).join(last) or '(none)'}\n"
            "Nothing of this chunk was taken. Mend the cause, then give the same command again."
        )
    return said


@contextmanager
def ended_with_us(process: subprocess.Popen[Any]) -> Iterator[None]:
    """End `process` if we are told to end while it runs, and do not wait for it for ever."""
    try:
        yield
    except BaseException:
        process.terminate()
        try:
            process.wait(GRACE_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
        raise


def how_it_ended(status: int) -> str:
    """Say in words how a process ended that returned `status`."""
    if status < 0:
        names = {known.value: known.name for known in signal.Signals}  # a real-time signal may have none
        return f"was killed by {names.get(-status, f'signal {-status}')}"
    return f"ended with exit status {status}"


def check_products(
    out: Path, chunk: ChunkId, kept: Callable[[str], Path] | None = None
) -> list[dict[str, Any]]:
    """Check the products of one chunk: names, index against evt file, record by record.

    What is read of the indexes is kept at the paths that `kept` gives for their names.

    Raises
    ------
    DecoderError
        If a product cannot be what the contract says.
    FormatError
        If an evt file or an index is damaged; names the file and the place.
    """
    found: dict[str, re.Match[str]] = {}
    for path in sorted(out.iterdir()):
        match = PRODUCT.fullmatch(path.name)
        if (match or path.suffix in {".evt", ".idx"}) and not stat.S_ISREG(path.lstat().st_mode):
            raise DecoderError(
                f"{_shown(path.name)}: the decoder wrote a link, a pipe or a directory under this name, expected "
                "a plain file. Nothing of this chunk was taken. Mend the decoder."
            )
        if match:
            if match["chunk"] != chunk:
                raise DecoderError(
                    f"{path.name}: the decoder wrote a product of chunk {match['chunk']} while it worked on "
                    f"chunk {chunk}; two chunks would claim one name. Mend the decoder."
                )
            if not Apid.matches(match["apid"]):
                raise DecoderError(
                    f"{path.name}: APID {match['apid']} is none of event data (955-958, 965-968)"
                )
            found[path.name] = match
        elif path.suffix in {".evt", ".idx"}:
            raise DecoderError(
                f"{_shown(path.name)}: not a product's name, expected <ground id>-<run>-<apid>-<chunk>.{{evt,idx}}"
            )
    for name in found:
        if name.endswith(".evt") and name.replace(".evt", ".idx") not in found:
            raise DecoderError(f"{name}: the decoder wrote no index for it, so its events cannot be placed")
    described = []
    sizes = {name: (out / name).stat().st_size for name in found}
    for name, match in found.items():
        entry: dict[str, Any] = {
            "name": name,
            "kind": match["kind"],
            "ground": match["ground"],
            "run": match["run"],
            "apid": match["apid"],
            "size": sizes[name],
            "sha256": sha256(out / name),
        }
        if match["kind"] == "idx":
            counts, rows = _check_index(out / name, RunId(match["run"]), int(match["apid"]), set(found))
            entry |= counts
            if kept is not None:
                placed.keep(rows, kept(name), entry["sha256"], sizes)
        fsync_file(out / name)
        described.append(entry)
    return described


def _shown(name: str) -> str:
    """Return a file's name for a message: what is not plain is escaped."""
    return name if name.isascii() and name.isprintable() else ascii(name)


def _check_index(
    path: Path, run: RunId, apid: int, products: set[str]
) -> tuple[dict[str, Any], placed.Placed]:
    """Check an index against the evt files that it names; return its counts, and its rows."""
    index = idx.read_index(path)
    if index.startedat not in {None, run.met}:
        raise FormatError(f"{path}: its lines are of run {index.startedat}, its name says {run.met} ({run})")
    for what, rows in (("EVT", index.events), ("DGM", index.datagrams)):
        others = np.unique(rows["apid"][rows["apid"] != apid])
        if len(others):
            raise FormatError(f"{path}: {what} lines of APID {others[0]}, its name says {apid}")
    times = index.events["utc"]
    wrong = np.flatnonzero((times < 0) | (times >= MAX_TIME))
    if len(wrong):
        raise FormatError(
            f"{path}: sequence {index.events['sequence'][wrong[0]]} is said to be of {times[wrong[0]]:g} Unix "
            f"seconds, expected 0 to {MAX_TIME}. Nothing of this chunk was taken; decode it again."
        )
    whole = True
    sizes = []
    for number, name in enumerate(index.files):
        if name not in products:
            raise FormatError(
                f"{path}: names the event file {name}, which the decoder did not write beside it. "
                "Nothing of this chunk was taken. Mend the decoder, then give the same command again."
            )
        events = index.events[index.events["file"] == number]
        of_file, without_hole = _check_records(path, path.with_name(name), events)
        sizes.append(of_file)
        whole &= without_hole
    counts = {"events": len(index.events), "datagrams": len(index.datagrams), "whole": whole}
    return counts, placed.place(index, sizes)


def _check_records(index: Path, file: Path, events: Any) -> tuple[NDArray[np.int64], bool]:
    """Check that every index line points at its record.

    Returns the records' sizes in the order of the lines, and whether they fill the file without a hole.
    """
    opened = evt.open_evt(file)
    order = np.argsort(events["offset"], kind="stable")
    offsets = events["offset"][order]
    sizes = evt.record_layout(opened.data, offsets, str(file)).sizes
    sequence = evt.context_column(opened.data, events["offset"], "scalers_sequence")
    apid = evt.context_column(opened.data, events["offset"], "ccsds_apid")
    wrong = np.flatnonzero((sequence != events["sequence"]) | (apid != events["apid"]))
    if len(wrong):
        line, found = events[wrong[0]], (sequence[wrong[0]], apid[wrong[0]])
        raise FormatError(
            f"{index}: sequence {line['sequence']} of APID {line['apid']} is said to lie at byte "
            f"{line['offset']} of {file.name}, where there is sequence {found[0]} of APID {found[1]}. "
            "Nothing of this chunk was taken; decode it again."
        )
    ends = offsets + sizes
    without_hole = bool(
        offsets[0] == evt.HEADER_SIZE and (ends[:-1] == offsets[1:]).all() and ends[-1] == len(opened.data)
    )
    of_lines = np.empty(len(sizes), np.int64)
    of_lines[order] = sizes
    return of_lines, without_hole


def take_products(out: Path, home: Path, chunk: ChunkId) -> None:
    """Move checked products of `chunk` from the decoder's directory `out` to `home`, and remove `out`.

    Products that an earlier decoding of the chunk left and this one does not make are removed. The
    caller holds the locks of the runs that they belong to.
    """
    new = {path.name for path in out.iterdir() if PRODUCT.fullmatch(path.name)}
    for path in home.iterdir():
        match = PRODUCT.fullmatch(path.name)
        if match and match["chunk"] == chunk and path.name not in new:
            path.unlink()
    for name in sorted(new):
        (out / name).rename(home / name)
    fsync_directory(home)
    shutil.rmtree(out)

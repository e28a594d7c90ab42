"""Why a job did not do its work, in words: from its log, and what Snakemake or Slurm says of it."""

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path

from halfpipe.ids import DownlinkId
from halfpipe.words import shortened

LINES_OF_A_LOG, LETTERS_OF_A_LINE = 8, 600
LETTERS_OF_A_CAUSE = 480  # six lines of a narrow screen
TAIL_BYTES = 1 << 16  # logs may hold whatever a decoder prints
MOST_NAMED = 6  # jobs with one cause that are named
SENTENCE = re.compile(r"(?<=[.!]) (?=[A-Z])")
COMMAND = re.compile(r"(?<![\w/.-])(?:halfpipe|snakemake) [a-z-]")
NEXT_RECORD = re.compile(r"\d{4}-\d\d-\d\d ")
SIGNALS = {
    "SIGKILL": "killed from outside (SIGKILL), most often because memory ran out",
    "SIGINT": "ended by Ctrl-C (SIGINT)",
    "SIGTERM": "told to end (SIGTERM)",
    "SIGHUP": "ended because its terminal was closed (SIGHUP)",
    "SIGXCPU": "ended because it had used up its processor time (SIGXCPU)",
    "SIGSEGV": "ended by a crash (SIGSEGV)",
    "SIGABRT": "ended by a crash (SIGABRT)",
    "SIGBUS": "ended because memory or a file could not be read (SIGBUS)",
}
OF_SLURM = {
    "OUT_OF_MEMORY": "killed by Slurm because it needed more memory than it was given{memory}",
    "TIMEOUT": "ended by Slurm at its time limit{time}",
    "DEADLINE": "ended by Slurm at its time limit{time}",
    "CANCELLED": "cancelled in Slurm",
    "NODE_FAIL": "lost when its node failed",
    "BOOT_FAIL": "lost when its node failed",
    "PREEMPTED": "ended by Slurm for a job with a higher priority",
}


@dataclass(frozen=True)
class Unfinished:
    """One job that failed, or was begun and not finished.

    Parameters
    ----------
    rule, output
        Its rule, and its outputs, relative to `paths.work`.
    logs
        Ours first, then Slurm's.
    command
        What repeats it in `paths.work`; empty if nobody knows.
    how
        How it ended, as Snakemake says it: a signal, a state of Slurm; empty if it says nothing.
    limits
        What it was given, by the names of Snakemake: ``mem_mb``, ``runtime``.
    """

    rule: str
    output: str
    logs: tuple[Path, ...]
    command: str
    how: str = ""
    limits: Mapping[str, str] | None = None

    @property
    def downlink(self) -> DownlinkId | None:
        """The downlink, as the place of its log says."""
        name = self.logs[0].parent.name if self.logs else ""
        return DownlinkId(name) if DownlinkId.matches(name) else None

    @property
    def ids(self) -> str:
        """What tells it from other jobs of its rule and downlink: chunk or run; empty if there is one only."""
        return self.logs[0].stem.removeprefix(self.rule).removeprefix("-") if self.logs else ""


def told_by(log: Path) -> list[str]:
    """Return the lines of a log that say best what went wrong: from its last error on, else its last ones."""
    return [shortened(line, LETTERS_OF_A_LINE) for line in _told_by(log)]


def _told_by(log: Path) -> list[str]:
    try:
        with log.open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - TAIL_BYTES))
            lines = file.read().decode(errors="replace").splitlines()
    except OSError as error:
        return [f"(no log: {error.strerror})"]
    errors = [number for number, line in enumerate(lines) if "error: " in line]
    told = lines[errors[-1] :][:LINES_OF_A_LOG] if errors else lines[-LINES_OF_A_LOG:]
    return [printable(line) for line in told]


def printable(line: str) -> str:
    """Return a line without what a terminal obeys."""
    return "".join(c if c.isprintable() else "?" for c in line)


def cause(job: Unfinished, interrupted: str = "") -> str:
    """Say in words why a job did not do its work, and what its log says is to be done.

    Parameters
    ----------
    job
        The job.
    interrupted
        What ended the whole invocation, in words, as ``ended by Ctrl-C``; empty if nothing did.
    """
    told = _told_by(job.logs[0]) if job.logs else []
    known = [line.partition("error: ")[2] for line in told if "error: " in line]
    if job.how in OF_SLURM:
        given = job.limits or {}
        memory = f" ({given['mem_mb']} MB)" if "mem_mb" in given else ""
        time = f" ({given['runtime']} min)" if "runtime" in given else ""
        return OF_SLURM[job.how].format(memory=memory, time=time)
    if job.how in SIGNALS and not (known and job.how != "SIGKILL"):
        return f"the job was {SIGNALS[job.how]}"
    if known:
        why, remedy = parted(_in_words(known[-1], told))
        return f"{shortened(why, LETTERS_OF_A_CAUSE)} {remedy}".strip()
    if interrupted:
        return f"the job was {interrupted} before it had ended"
    if job.how:
        return f"the job was ended by {job.how}"
    last = next((line for line in reversed(told) if line.strip()), "")
    return shortened(f"the job ended without saying why; its last line: {last}", LETTERS_OF_A_CAUSE)


def parted(said: str) -> tuple[str, str]:
    """Part a message into what happened and, from the first sentence on that names a command, what to do; or empty."""
    sentences = SENTENCE.split(said)
    first = next((n for n, sentence in enumerate(sentences) if COMMAND.search(sentence)), 0)
    return (" ".join(sentences[:first]), " ".join(sentences[first:])) if first else (said, "")


def _in_words(error: str, told: Sequence[str]) -> str:
    """Shorten an error: of a program that failed, how it ended and its last line, without its command."""
    if any(line.startswith(("MemoryError", "numpy._core._exceptions._ArrayMemoryError")) for line in told):
        return "it needs more memory than there is (MemoryError)"
    if error.startswith("this is a defect") and not told[-1].startswith(" "):
        return f"a defect of the program, please report it with its log: {told[-1]}"
    for name, words in SIGNALS.items():
        error = error.replace(f"was killed by {name}", f"was {words}")
    if "Its last lines were:" in told:
        after = told[told.index("Its last lines were:") + 1 :]
        lines = [line for line in after if line.strip() and not line.startswith("Nothing of this chunk")]
        error = re.sub(r": (?:\S*/|python ).*", "", error)
        return f"{error}, saying: {lines[-1]}" if lines and lines != ["(none)"] else error
    more = list(takewhile(lambda line: not NEXT_RECORD.match(line), told[1:]))
    return " ".join([error, *more]) if not error.startswith("this is a defect") else error


def names(jobs: Sequence[Unfinished]) -> str:
    """Name jobs by rule, then by chunk or run: ``decode_chunk 00001, 00002``."""
    rules: dict[str, list[str]] = {}
    for job in jobs:
        rules.setdefault(job.rule, []).append(job.ids)
    said = []
    for rule, ids in rules.items():
        more = f" and {len(ids) - MOST_NAMED} more" if len(ids) > MOST_NAMED else ""
        said.append(f"{rule} {', '.join(ids[:MOST_NAMED])}{more}".strip())
    return "; ".join(said)


def first_cause(jobs: Sequence[Unfinished], interrupted: str = "") -> tuple[list[Unfinished], str]:
    """Return the cause of most jobs of a downlink, and those jobs."""
    by_cause: dict[str, list[Unfinished]] = {}
    for job in jobs:
        by_cause.setdefault(cause(job, interrupted), []).append(job)
    why = max(by_cause, key=lambda why: len(by_cause[why]))
    return by_cause[why], why

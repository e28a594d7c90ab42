"""Why jobs have not started yet: Slurm's queue in words."""

import re
import shutil
import subprocess
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from halfpipe.causes import Cause, Verdict
from halfpipe.errors import NOTHING, Remedy
from halfpipe.words import count

ANSWER_SECONDS = 20.0  # that squeue may take
NEED_ACTION = ("JobHeld", "AssocGrp")  # the first letters of reasons
OURS = "halfpipe"  # how the names of our jobs begin (`halfpipe-jobname-prefix` of the profile)
# Words for squeue's reasons, the first pattern that fits; and what a person can do (squeue(1), *JOB REASON CODES*).
REASONS: tuple[tuple[str, str, str], ...] = (
    (
        "AssocGrp",
        "the allocation of the account is used up",
        "the jobs start when its usage falls: end other jobs, such as history, or ask the site. S3DF sets a facility "
        "to zero nodes when it uses more than its share",
    ),
    ("QOS|Assoc|MaxJobs", "a limit of the QOS or the account is reached", "the jobs start when others end"),
    (
        "PartitionDown|PartitionInactive|ReqNodeNotAvail|Nodes_required|Reserved",
        "the partition is drained, down or reserved",
        "see when it comes back: scontrol show partition, scontrol show reservation",
    ),
    ("JobHeld", "the job is held in Slurm", "see why, then release it: scontrol release JOB"),
    ("Priority", "jobs with a higher priority go first", ""),
    ("Resources", "no node is free", ""),
)


@dataclass(frozen=True)
class Queued:
    """Jobs that wait for one reason.

    Attributes
    ----------
    reason
        As squeue prints it.
    jobs
        How many wait for it.
    start
        When Slurm expects the first of them to start, as squeue prints it; empty if it does not say.
    """

    reason: str
    jobs: int
    start: str

    @property
    def text(self) -> str:
        """Say it in words."""
        words, _ = self._words
        wait = "waits" if self.jobs == 1 else "wait"
        expected = f"; Slurm expects the first to start at {self.start}" if self.start else ""
        return f"{count(self.jobs, 'job')} {wait} in Slurm's queue: {words} ({self.reason}){expected}"

    @property
    def remedy(self) -> Remedy:
        """What a person can do."""
        _, do = self._words
        return Remedy(first=do) if do else NOTHING

    @property
    def _words(self) -> tuple[str, str]:
        found = (words for pattern, *words in REASONS if re.search(pattern, self.reason))
        words, do = next(found, ("Slurm has not started it yet", ""))
        return words, do


def queued() -> list[Queued]:
    """Return our jobs that wait in Slurm's queue, by reason; none where there is no Slurm or it does not answer."""
    if shutil.which("squeue") is None:
        return []
    words = ("squeue", "--me", "--noheader", "--states=PENDING", "--format=%j|%r|%S")
    try:
        said = subprocess.run(
            words,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=True,
            timeout=ANSWER_SECONDS,
        ).stdout
    except (OSError, subprocess.SubprocessError):
        return []
    rows = [line.split("|") for line in said.splitlines() if line.startswith(OURS) and line.count("|") == 2]
    starts: dict[str, list[str]] = {}
    for _, reason, start in rows:
        starts.setdefault(reason, []).extend([start] if start != "N/A" else [])
    jobs = Counter(reason for _, reason, _ in rows)
    return [Queued(reason, number, min(starts[reason], default="")) for reason, number in jobs.items()]


def troubles() -> Iterator[Cause]:
    """Yield why jobs have not started. Most reasons pass by themselves; those in `NEED_ACTION` may not."""
    for one in queued():
        verdict = Verdict.ACTION if one.reason.startswith(NEED_ACTION) else Verdict.NOTE
        yield Cause("queue-waits", verdict, one.text, one.remedy)

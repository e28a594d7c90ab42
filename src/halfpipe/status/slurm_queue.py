"""Why jobs have not started yet: Slurm's queue in words."""

import re
import shutil
from collections.abc import Sequence

from halfpipe.causes import Cause, Verdict
from halfpipe.errors import Remedy
from halfpipe.process.programs import answer
from halfpipe.words import count, grouped

ANSWER_SECONDS = 20.0  # time limit of squeue
NEED_ACTION = ("JobHeld", "AssocGrp")  # how these reasons begin
OURS = "halfpipe"  # how the names of our jobs begin (`halfpipe-jobname-prefix` of the profile)
# Words for squeue's reasons (squeue(1), *JOB REASON CODES*), and what the operator can do; first match wins.
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


def troubles() -> list[Cause]:
    """Return why our jobs wait in Slurm's queue, by reason; nothing where there is no Slurm or it does not answer."""
    if shutil.which("squeue") is None:
        return []
    words = ("squeue", "--me", "--noheader", "--states=PENDING", "--format=%j|%r|%S")
    lines = answer(words, ANSWER_SECONDS).splitlines()
    jobs = (line.split("|") for line in lines if line.startswith(OURS) and line.count("|") == 2)
    starts = grouped((reason, start) for _, reason, start in jobs)
    return [_cause(reason, of_jobs) for reason, of_jobs in starts.items()]


def _cause(reason: str, starts: Sequence[str]) -> Cause:
    """Return the cause that jobs wait for a reason. Most reasons pass by themselves; those in `NEED_ACTION` may not.

    Parameters
    ----------
    reason
        As squeue prints it.
    starts
        When Slurm expects each job to start, as squeue prints it.
    """
    found = (words for pattern, *words in REASONS if re.search(pattern, reason))
    words, do = next(found, ("Slurm has not started it yet", ""))
    first = min((start for start in starts if start != "N/A"), default="")
    expected = f"; Slurm expects the first to start at {first}" if first else ""
    jobs = count(len(starts), "job waits", "jobs wait")
    return Cause(
        "queue-waits",
        Verdict.ACTION if reason.startswith(NEED_ACTION) else Verdict.NOTE,
        f"{jobs} in Slurm's queue: {words} ({reason}){expected}",
        Remedy(first=do),
    )

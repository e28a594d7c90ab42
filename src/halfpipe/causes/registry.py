"""Every code of a cause, an error or a failed job: its phase, what it means, and what to do.

`halfpipe explain CODE` prints an entry, and docs/codes.md is made from all of them. A test searches the source for
codes that are not here. A message has more: the file, the run, and the command to paste.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum


class Phase(StrEnum):
    """How far a downlink is when a cause appears: one of `PHASES`, or one of the last two.

    `JOB` is the phase of the job that failed, or the first phase that is not done. `SITE` concerns no single downlink.
    """

    RETDEFS = "RetDefs"
    LEVEL0 = "level-0"
    DECODED = "decoded"
    STAGED = "staged"
    LEDGER = "ledger"
    SUBMITTED = "submitted"
    TAKEN = "taken"
    JOB = "job"
    SITE = "site"


# The phases of a downlink, in order.
PHASES: tuple[Phase, ...] = tuple(phase for phase in Phase if phase not in {Phase.JOB, Phase.SITE})
OF_RULE = {
    "decode_chunk": Phase.DECODED,
    "deliver_run": Phase.STAGED,
    "receipt": Phase.STAGED,
    "ledger": Phase.LEDGER,
    "submit": Phase.SUBMITTED,
}


@dataclass(frozen=True)
class Code:
    """One code: its phase, what it means, and what to do, a sentence each."""

    code: str
    phase: Phase
    meaning: str
    action: str


_RERUN = "Rerun the command."
_FIX = "Fix what the message names, then rerun the command."

_TEXTS: Mapping[Phase, Mapping[str, tuple[str, str]]] = {
    Phase.RETDEFS: {
        "waits-retdef": (
            "The RetDef of a chunk below the last one is missing; this needs action after alarm.late_hours.",
            "Have the RetDef made and copied, or leave the chunk out with halfpipe accept.",
        ),
        "settling": (
            "The youngest RetDef is younger than retdef.settle_seconds, so more RetDefs may arrive.",
            "Nothing: the downlink is ready soon.",
        ),
        "no-retdefs": (
            "The search path has no RetDef of the downlink, or its RetDefs are gone.",
            "Check the id and paths.retdef, and have the RetDefs copied again.",
        ),
        "retdef-new": (
            "RetDefs arrived after the downlink was handed off.",
            "Process the downlink again; the timer does this by itself.",
        ),
        "retdef-reissued": (
            "A RetDef differs from the one that was processed, or two places of the search path have different ones.",
            "To use a new RetDef, process the downlink again with -F; of two, remove the wrong one.",
        ),
        "retdef-elsewhere": (
            "A RetDef does not count: it is in the directory of another downlink, also by a link, or has a wrong name.",
            "Move it to the directory of its own downlink, or rename it.",
        ),
    },
    Phase.LEVEL0: {
        "level0-missing": (
            "The level-0 archive lacked hours, or parts of hours, that a chunk needs.",
            "Have the archive completed, then decode the chunk again; if hours are gone for good, use halfpipe accept.",
        ),
        "level0-arrived": (
            "Level-0 arrived after a chunk was decoded without it.",
            "Decode the chunk again.",
        ),
        "level0-changes": (
            "Files of level-0 changed each time a chunk was decoded, so the chunk was not decoded.",
            "Wait until ingest has written them, then rerun the command.",
        ),
    },
    Phase.DECODED: {
        "decoder": (
            "The decoder failed, or its products lack data that the RetDef announces.",
            "Find the cause in the job's log, fix it, and rerun; if the data are gone for good, use halfpipe accept.",
        ),
        "decoder-exceptions": (
            "A decoder reported errors, and left out the data that caused them.",
            "See in the log which events are lost.",
        ),
        "events-missing": (
            "The decoder delivered fewer events than the datagrams announce, or two events of an EPU share a sequence.",
            "Decode the chunk again; if the events are gone for good, use halfpipe accept.",
        ),
        "cleaned-up": (
            "A decoded file was cleaned up or lost (halfpipe status --check).",
            "Nothing: HalfPipe decodes the chunk again when it needs the file.",
        ),
    },
    Phase.STAGED: {
        "damaged": (
            "A file of HalfPipe's own is missing or damaged, or contradicts other records; if it was repaired, a note.",
            "Run the command of the message, or restore the file that it names from a backup.",
        ),
        "books": (
            "A step does not account for everything that the step before contained.",
            "Run the command of the message; most often a RetDef arrived after planning.",
        ),
        "nothing-delivered": (
            "All events of a downlink wait, which may mean that a part of the downlink is missing.",
            "Look at halfpipe explain, and check whether all RetDefs arrived.",
        ),
        "events-due": (
            "Events of a run can be delivered now; this needs action after alarm.late_hours.",
            "Deliver the run again with the command of the message, or wait for its next downlink.",
        ),
        "merged-without": (
            "A run was merged without chunks of other downlinks, because their products and level-0 are gone.",
            "Restore their level-0 files, then deliver the run again.",
        ),
        "datagrams-differ": (
            "Two downlinks contain a datagram with the same number, the same number of events, and other sequences.",
            "Find out which downlink is wrong, and leave its chunks out with halfpipe accept.",
        ),
        "late-events": (
            "Events arrived late, inside the range that another downlink has delivered.",
            "See halfpipe explain, then process the other downlink again, or use halfpipe accept.",
        ),
        "undecided": (
            "Nothing that halfpipe accept could decide is open under this name, or the number is another one now.",
            "See halfpipe status, and paste its command.",
        ),
        "shrunk": (
            "A downlink would deliver fewer events of a run than before; if a person accepted this, a note.",
            "Restore the input that is missing, or accept the loss with halfpipe accept.",
        ),
        "closed": (
            "No downlink delivers events in sequences that one downlink delivered before and does not deliver now.",
            "After Level-1 has rolled the events back, reopen them with halfpipe accept.",
        ),
        "deliveries-overlap": (
            "Two downlinks have delivered the same sequences of a run: a backup was restored, or two systems deliver.",
            "Have one downlink rolled back in Level-1, and deliver the run again as the message says.",
        ),
        "other-system": (
            "Another system handed a run off, and recorded no delivery of it, or its record cannot be read.",
            "If HalfPipe refuses to deliver, run the command of the message.",
        ),
        "magic7": (
            "The magic-7 command failed, or gave no attitude and orbit, which Level-1 needs.",
            "Fix magic7.command, then run the command of the message.",
        ),
        "level1-refuses": (
            "Level-1 would refuse a run or what is in the stage, so it was not staged or not submitted.",
            "Fix the reason in the config or the data, then deliver the run again.",
        ),
        "stage-differs": (
            "A file in the stage is missing or differs from what was handed off.",
            "Stage it again with the command of the message.",
        ),
        "stage-gone": (
            "Event files are gone from the stage, and no submission contained them.",
            "Find out what clears the stage, then stage them again; if Level-1 has them, settle the submission.",
        ),
        "stage-foreign": (
            "The stage belongs to another working directory, or contains files that HalfPipe has no record of.",
            "Find out whose files they are; give HalfPipe its own stage, or move the files away.",
        ),
    },
    Phase.LEDGER: {
        "ledger": (
            "The ledger cannot be reached, or its content is wrong.",
            "Run halfpipe ledger check. Hand-offs do not wait for the ledger, but submissions do.",
        ),
        "ledger-lacks": (
            "The ledger was not loaded from the last receipt of a downlink.",
            "Run halfpipe ledger load or rebuild, as the message says.",
        ),
        "ledger-foreign": (
            "The ledger belongs to another working directory.",
            "Check paths.work and ledger.url.",
        ),
    },
    Phase.SUBMITTED: {
        "submission": (
            "A submission failed, or its result is not known.",
            "Check in the pipeline whether Level-1 has the stream, then run the command of the message.",
        ),
        "written-for-person": (
            "The config has no submit.command, so a person must run the command.",
            "Run it, then confirm with halfpipe submit --settle submitted.",
        ),
        "simulated": (
            "A hand-off has simulated data, and would be submitted to Level-1 in production.",
            "Do not submit it. To try a submission, set submit.command to a stand-in for Level-1.",
        ),
        "not-submitted": (
            "A hand-off is not submitted yet; this needs action after alarm.late_hours.",
            "Submit it, or wait for the next turn if submit.automatic is on.",
        ),
        "handoff-not-submitted": (
            "Level-1 has an earlier hand-off of the downlink, and replaces it only after a rollback.",
            "Decide whether Level-1 needs the later hand-off, then roll the stream back.",
        ),
    },
    Phase.TAKEN: {
        "not-taken": (
            "A hand-off was submitted more than alarm.late_hours ago, and its files are still in the stage.",
            "Check in the pipeline what became of the stream.",
        ),
        "file-taken": (
            "Level-1 has taken files of a hand-off (halfpipe status --check).",
            "Nothing.",
        ),
        "token-left": (
            "A token keeps Level-1 from retiring a run (halfpipe status --check).",
            "Make the receipt again with the command of the message.",
        ),
        "level1-stream": (
            "The state of Level-1's stream, as submit.check prints it (halfpipe status --check of one downlink).",
            "Nothing.",
        ),
        "online": (
            "It is not known whether Online got the file of a run, because a command was killed.",
            "See whether Online has the file, then run the command of the message.",
        ),
    },
    Phase.JOB: {
        "outstanding": (
            "The downlink is not processed yet.",
            "Process it; the timer does this by itself.",
        ),
        "in-progress": (
            "Another process works on the downlink, the run, or the same record.",
            "Wait until it ends, then rerun the command.",
        ),
        "held": (
            "A switch holds the work.",
            "See with halfpipe hold who set it and why, before you resume.",
        ),
        "failed": (
            "A command or a job failed for a reason without a code of its own.",
            _FIX,
        ),
        "format": (
            "A file is damaged or has the wrong format.",
            "Replace the file that the message names, then rerun the command.",
        ),
        "missing-input": (
            "A file that a job needs is missing.",
            "Restore the file, then rerun the command.",
        ),
        "file-system": (
            "The operating system cannot read or write a file or a directory.",
            "Fix the permissions or the mount, then rerun the command.",
        ),
        "disk-full": (
            "A file system is full.",
            "Free some space there, then rerun the command.",
        ),
        "killed": (
            "A process was killed before it ended, most often because memory ran out or the machine crashed.",
            "Rerun the command, with more memory if this happens again.",
        ),
        "memory": (
            "A job needed more memory than it had.",
            "Give the rule more mem_mb in the profile, then rerun the command.",
        ),
        "time-limit": (
            "A job or a downlink ran longer than it may.",
            "See what hung, often a file system; if nothing did, raise runtime in the profile.",
        ),
        "interrupted": (
            "A job was stopped from outside: by Ctrl-C, SIGTERM, scancel, or a Slurm job of higher priority.",
            _RERUN,
        ),
        "crashed": (
            "A program crashed.",
            "Look at the log; report this if it happens again.",
        ),
        "node-failed": (
            "The node of a Slurm job failed.",
            _RERUN,
        ),
        "executor": (
            "Slurm refused a job or lost it, or its program could not be started.",
            "Correct the profile's key, read Slurm's log, or run the command, as the message says.",
        ),
        "unseen": (
            "A job succeeded, but its product is not visible.",
            "Check that its file system is mounted, then rerun the command.",
        ),
        "defect": (
            "A defect of HalfPipe.",
            "Report it, with the lines in the log.",
        ),
    },
    Phase.SITE: {
        "not-mounted": (
            "A file system is not mounted, or the stage was emptied; commands that change anything refuse to run.",
            "Have it mounted; if the stage was emptied on purpose, see docs/operations.md.",
        ),
        "restored": (
            "The working directory or the stage was restored from a backup, and lacks newer records.",
            "Restore a newer backup, or follow docs/operations.md; otherwise, Level-1 would get events twice.",
        ),
        "disk-low": (
            "Less than 1 % and less than 20 GB are free on the file system of the working directory or the stage.",
            "See what uses the space, and what halfpipe cleanup would free.",
        ),
        "misspelt": (
            "A switch has a name without effect.",
            "Correct or remove it.",
        ),
        "outstanding-many": (
            "More than outstanding.max downlinks are outstanding, so only downlinks that you name are processed.",
            "Run halfpipe process with the range that the message names.",
        ),
        "silence": (
            "No new RetDef has arrived for alarm.silence_hours.",
            "Ask whether downlinks arrive, and check that RetDefs are copied.",
        ),
        "unattended-stopped": (
            "No unattended turn has ended for an hour: the timer starts none, or a turn hangs.",
            "Look at halfpipe.timer, or end the process that the message names.",
        ),
        "turn-failed": (
            "An unattended turn stopped before it processed anything.",
            _FIX,
        ),
        "board-failed": (
            "The board could not be written; downlinks are processed.",
            "Run halfpipe board, and fix what it reports, most often board.dir or its disk.",
        ),
        "doctor": (
            "The doctor left problems open, or last examined the site a month ago, or the site has changed since.",
            "Run halfpipe doctor.",
        ),
        "queue-waits": (
            "Jobs wait in Slurm's queue; this needs action if the allocation is used up or a job is held.",
            "Read the reason in the message; end other jobs of the account, or release a held job (scontrol release).",
        ),
        "config": (
            "The configuration or the command line is not valid.",
            "Correct the key that the message names.",
        ),
        "id": (
            "The id of a downlink, run or chunk has the wrong form.",
            "Correct it: 230401001, 2c2e5787 or r0741234567, 00001.",
        ),
    },
}
# Each code: its phase, what it means, and what to do.
CODES: Mapping[str, Code] = {
    code: Code(code, phase, *texts) for phase, of_phase in _TEXTS.items() for code, texts in of_phase.items()
}

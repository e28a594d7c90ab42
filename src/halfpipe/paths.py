"""Where every file lies, and nothing else knows it.

All paths are relative to `paths.work`, or, where it says so, to `paths.stage`, `paths.online` or `board.dir`.
"""

import re


class Place:
    """Where the files of one kind lie: a pattern with the names of ids in braces, as Snakemake has wildcards."""

    def __init__(self, pattern: str) -> None:
        self._pattern = pattern
        names = dict.fromkeys(re.findall(r"\{(\w+)", pattern))
        self._of = re.sub(r"\{(\w+)", lambda found: f"{{{[*names].index(found[1])}", pattern).format
        self._ids = len(names)

    def __call__(self, *ids: str | int) -> str:
        """Return the path of the file of these ids, in the order in which the pattern first names them.

        Without ids it is the pattern itself.
        """
        if len(ids) == self._ids:
            return self._of(*ids)
        if ids:
            raise TypeError(f"{self._pattern} of {ids}")
        return self._pattern


DL, CHUNK, RUN = "{dl}", "{chunk}", "{run}"
FAILURE_SUFFIX = ".failure.json"
DONE_LOG, USAGE = "done.log", "usage.jsonl"  # beside the logs of a downlink's jobs

FORMAT_MARK = "format.json"  # the mark of the working directory: the format of what it holds, and its id
RUNS = "runs"  # the directory of what is known of all runs
FORCE = "force"  # the directory of the operator's list of runs that are abandoned
REPIPES = "repipe"  # the directory of the made-up downlinks by which runs are processed once more
LOGS = "logs"  # the directory of all logs
ALL_SETTINGS = "settings"  # the directory of the settings that jobs were given
LEDGER = "ledger.sqlite"  # the ledger, where it is a file: an SQLite database
LEASES = "leases"  # the directory of all leases: who is at work on what, a directory for each thing
# The directory of what the processes that hold a lease touch as long as they live.
HEARTBEATS = f"{LEASES}/alive"
UNATTENDED_LEASE = f"{LEASES}/unattended"  # the lease of the unattended invocation: one at a time
ONLINE_LEASE = f"{LEASES}/online"  # the lease of the hand-off to Online: one at a time
TAKEOVER_LEASE = f"{LEASES}/takeover"  # the lease of the takeover: one at a time
UNATTENDED_LOGS = "logs/unattended"  # the directory of the logs of unattended processing
BATCH_LOGS = "logs/process"  # the directory of the logs of `halfpipe process`
# What unattended processing has told people, so that it does not repeat itself.
ALERT_STATE = f"{UNATTENDED_LOGS}/told.json"
LAST_TURN = f"{UNATTENDED_LOGS}/last.json"  # when the last turn of unattended processing ended, and how
# The directory of all scratch on the stage's file system, outside what Level-1 looks at.
STAGE_SCRATCHES = ".halfpipe"
BOARD = "index.html"  # the board's page of the site, relative to `board.dir`
BOARD_RUNS = "runs.html"  # the board's page of the runs that are not complete, relative to `board.dir`
# The directory of the mark of the working directory that uses a stage, relative to `paths.stage`.
STAGE_MARK = ".halfpipe-mark"
# The directory of the copy of the stage's mark that the working directory keeps.
STAGE_MARK_COPY = "stage-mark"

copies = Place("copies/{series}")  # the second copies of a series of records

retdef = Place("{dl}/RetDef-{dl}-{chunk}.xml")  # the staged RetDef of a chunk
chunks = Place("{dl}/chunks")  # the directory of the chunk products of a downlink
chunk = Place("{dl}/chunks/{chunk}.json")  # vouches for what the decoder made of a chunk
chunk_scratch = Place("{dl}/chunks/.{chunk}.part")  # the directory that the decoder of a chunk writes into
# Where the products of chunks are kept that were decoded anew, until the downlink is handed off.
replaced = Place("{dl}/chunks/.replaced")

run = Place("runs/{run}")  # the directory of what is known of a run
# The merged index: the datagrams that a downlink brought of a run, and which chunks have its events. Never deleted.
datagrams = Place("runs/{run}/{dl}/datagrams.idx")
# Vouches for the staged event files of a run within a downlink.
manifest = Place("runs/{run}/{dl}/manifest.json")
deliveries = Place("runs/{run}/deliveries")  # the directory of the records of what was delivered of a run
context = Place("runs/{run}/.context")  # scratch for chunks that are decoded again as context of a merge
# The directory of the records of what was done to hand a run to Online.
online_record = Place("runs/{run}/online")

receipt = Place("dl={dl}")  # the receipt of a downlink: what a user names as the target
# The directory of the records of a downlink's hand-offs: the last one is its receipt.
receipts = Place("{dl}/receipts")
# From where a downlink was taken over, and which files of the legacy were read.
taken_over = Place("{dl}/taken-over.json")
loaded = Place("{dl}/ledger.json")  # vouches for a downlink's being in the ledger
# Says that a downlink was submitted to Level-1: a target for users, as the receipt is.
submitted = Place("submit={dl}")
# The directory of the records of what was done to submit the hand-offs of a downlink to Level-1.
submissions = Place("{dl}/submissions")
# The command line for a person to give, where the config has no command that submits.
submit_line = Place("{dl}/submit.txt")
drawn = Place("pictures={dl}")  # vouches for the pictures of a downlink: what a person asks for
pictures = Place("{dl}/pictures")  # the directory of the pictures of a downlink's runs

# What a person has said of who is on a downlink, a run or a cause, and until when.
acknowledged = Place("acknowledged/{what}")

# The directory of a made-up downlink by which a run is processed once more; what lies in it makes its id used, so it
# stays.
repipe = Place("repipe/{dl}")
repipe_note = Place("repipe/{dl}/run.json")  # its run, when and by whom it was begun, and what came of it
repipe_config = Place("repipe/{dl}/config.yaml")  # its config, written at each try
repipe_retdefs = Place("repipe/{dl}/retdefs")  # the place on its own search path that has its RetDefs
repipe_moot = Place("repipe/{dl}/moot.txt")  # the MOOT key and alias of its run, where the ledger maps them
repipe_work = Place("repipe/{dl}/work")  # its own working directory
repipe_stage = Place("repipe/{dl}/stage")  # its own stage

# The settings that a command has resolved for its jobs, named by their content.
settings = Place("settings/{name}.json")
# The directory of what the jobs of a downlink leave: logs, why they failed, what they took.
job_logs = Place("logs/{dl}")
# The logs of the jobs of a downlink that ended well, one after the other.
done_log = Place("logs/{dl}/done.log")
# What the jobs of a downlink that ended well took of time and memory, a line a try.
usage = Place("logs/{dl}/usage.jsonl")
# The batches of a command of `halfpipe process`, what its Snakemake prints, and the mark and the log of each batch.
batches = Place("logs/process/{name}/batches.json")
batches_log = Place("logs/process/{name}/all.log")
batch = Place("logs/process/{name}/{number}.done")
batch_log = Place("logs/process/{name}/{number}.log")
# The file whose time says since when downlinks are regenerated, until all are.
reprocessing = Place("logs/process/again-{name}.json")
# The lease of the process at work on a downlink; its running jobs are registered in it.
downlink_lease = Place("leases/downlink-{dl}")
run_lease = Place("leases/run-{run}")  # the lease under which the state of a run is read and changed

# A target that cannot be made: the file that a job of its name never makes.
refused = Place("refused/{target}")

staged = Place("{dl}")  # what Level-1 gets of a downlink, relative to `paths.stage`
# The directory of the event files of a run, relative to `paths.stage`, and the name of one of them: the run and the
# sequence of its first event (ground-chain §6).
staged_run = Place("{dl}/{l1_run}")
event_file = Place("{l1_run}-e{sequence:020d}.evt")
text = Place("{name}_{dl}.txt")  # the name of a text for Level-1, as in ``delivered_events_230401001.txt``
# The directory of the chunk tokens of a run, relative to `paths.stage`.
tokens = Place("chunktokens/{l1_run}")
# The token that keeps Level-1 from retiring a run while a downlink is in work.
halt_cleanup = Place("chunktokens/{l1_run}/haltCleanup-{dl}")
stage_scratch = Place(".halfpipe/{dl}-{what}")  # a scratch directory on the stage's file system

# The name of the file of a run for Online, relative to `paths.online` (ground-chain §7).
online_file = Place("{ground_id:08x}-{run}.evt")
board_page = Place("{dl}.html")  # the board's page of a downlink, relative to `board.dir`


def halt(switch: str, dl: str | None = None) -> str:
    """Return the halt switch for one downlink, or for all."""
    return f"{dl or 'halts'}/{switch}"


def log(rule: str, *ids: str) -> str:
    """Return the log of a job, which goes to `done_log` if that ends well; `ids` are its wildcards, downlink first."""
    return "/".join([LOGS, ids[0], "-".join([rule, *ids[1:]]) + ".log"])

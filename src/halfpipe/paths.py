"""The paths of all files; no other module spells out a path.

Paths are relative to `paths.work`, or, where noted, to `paths.stage`, `paths.online` or `board.dir`.
"""

from string import Formatter


class Place:
    """The path of one kind of file: a pattern with the names of ids in braces, like Snakemake's wildcards."""

    def __init__(self, pattern: str) -> None:
        self._pattern = pattern
        self._names = dict.fromkeys(name for _, name, *_ in Formatter().parse(pattern) if name)

    def __call__(self, *ids: str | int) -> str:
        """Return the path for these ids, in their order of first appearance in the pattern.

        Without ids, return the pattern itself.
        """
        if not ids:
            return self._pattern
        if len(ids) != len(self._names):
            raise TypeError(f"{self._pattern} does not take {ids}")
        return self._pattern.format(**dict(zip(self._names, ids)))  # noqa: B905 - checked above


DL = "{dl}"
CHUNK = "{chunk}"
RUN = "{run}"
FAILURE_SUFFIX = ".failure.json"
DONE_LOG = "done.log"  # next to the logs of a downlink's jobs
USAGE = "usage.jsonl"  # likewise

FORMAT_MARK = "format.json"  # the mark of the working directory: its format and its id
RUNS = "runs"  # directory with the state of all runs
DECISIONS = "decisions"  # the series of records of what people decided
LOGS = "logs"  # directory of all logs
LEDGER = "ledger.sqlite"  # the ledger, if it is a file: an SQLite database
LEASES = "leases"  # directory of all leases (which process works on what), one directory for each lease
HEARTBEATS = f"{LEASES}/alive"  # directory of the files that processes with a lease touch while they live
UNATTENDED_LEASE = f"{LEASES}/unattended"  # lease of unattended processing: one turn at a time
ONLINE_LEASE = f"{LEASES}/online"  # lease of the hand-off to Online: one at a time
TOLD_LEASE = f"{LEASES}/told"  # lease of the messages already sent
UNATTENDED_LOGS = "logs/unattended"  # directory of the logs of unattended processing
ALERT_STATE = f"{UNATTENDED_LOGS}/told.json"  # messages already sent, so that they are not repeated
CLOSED = f"{UNATTENDED_LOGS}/closed.json"  # the downlinks that nothing looks at again until they change
LAST_TURN = f"{UNATTENDED_LOGS}/last.json"  # when and how the last turn of unattended processing ended
STAGE_SCRATCHES = ".halfpipe"  # directory of all scratch on the stage's file system, ignored by Level-1
EXAMINED = "doctor.json"  # the result of the latest `halfpipe doctor`
BOARD = "index.html"  # the board's page of the site, relative to `board.dir`
BOARD_CODES = "codes.html"  # the board's page of the codes of problems, relative to `board.dir`
BOARD_STATUS = (
    "status.json"  # the accounts on the board, as `halfpipe status` prints them, relative to `board.dir`
)
BOARD_METRICS = "metrics.prom"  # the numbers of the board for Prometheus, relative to `board.dir`
BOARD_TRENDS = "trends.html"  # the board's page of latencies and waiting events, relative to `board.dir`
BOARD_RUNS = "runs.html"  # the board's page of the runs that are not complete, relative to `board.dir`
# Directory with the mark of the working directory that uses a stage, relative to `paths.stage`.
STAGE_MARK = ".halfpipe-mark"
STAGE_MARK_COPY = "stage-mark"  # directory with the working directory's copy of the stage's mark

copies = Place("copies/{series}")  # the second copies of a series of records

retdef = Place("{dl}/RetDef-{dl}-{chunk}.xml")  # the working copy of a RetDef
chunks = Place("{dl}/chunks")  # directory of the chunk products of a downlink
chunk = Place("{dl}/chunks/{chunk}.json")  # lists the products of a chunk, with checksums
chunk_scratch = Place("{dl}/chunks/.{chunk}.part")  # the decoder's output directory
# Former products of chunks that were decoded again, kept until the downlink is handed off.
replaced = Place("{dl}/chunks/.replaced")

run = Place("runs/{run}")  # directory with the state of a run
# The merged index: the datagrams of a run in a downlink, and the chunks that have its events. Never deleted.
datagrams = Place("runs/{run}/{dl}/datagrams.idx")
manifest = Place("runs/{run}/{dl}/manifest.json")  # points to the delivery of a run by a downlink
deliveries = Place("runs/{run}/deliveries")  # directory with the records of the deliveries of a run
context = Place("runs/{run}/.context")  # scratch for chunks that are decoded again as context of a merge
online_record = Place("runs/{run}/online")  # directory with the records of a run's hand-offs to Online

receipt = Place("dl={dl}")  # points to the receipt of a downlink: a target for users
# Directory with the receipts of a downlink, the records of its hand-offs; the last one counts.
receipts = Place("{dl}/receipts")
loaded = Place("{dl}/ledger.json")  # points to the receipt that was loaded into the ledger
submitted = Place("submit={dl}")  # points to the record of a downlink's submission: a target for users
submissions = Place("{dl}/submissions")  # directory with the records of a downlink's submissions to Level-1
drawn = Place("pictures={dl}")  # lists the pictures of a downlink: a target for users
pictures = Place("{dl}/pictures")  # directory of the pictures of a downlink's runs

# Directory in which `halfpipe doctor --probe` tests a file system from two hosts; removed at the end.
probe = Place("doctor-{name}")


# The resolved settings that a command passes to its jobs, named by their checksum.
settings = Place("settings/{name}.json")
job_logs = Place("logs/{dl}")  # directory with logs, failures and resource usage of a downlink's jobs
done_log = Place("logs/{dl}/done.log")  # the logs of a downlink's successful jobs, one after the other
# Time and memory of a downlink's successful jobs, one line per attempt.
usage = Place("logs/{dl}/usage.jsonl")
# The batches of a `halfpipe process` command, the output of its Snakemake, and mark and log of each batch.
batches = Place("logs/process/{name}/batches.json")
batches_log = Place("logs/process/{name}/all.log")
batch = Place("logs/process/{name}/{number}.done")
batch_log = Place("logs/process/{name}/{number}.log")
# Its modification time is when the reprocessing of a set of downlinks began; removed when all are done.
reprocessing = Place("logs/process/again-{name}.json")
# Lease of the process that works on a downlink. Its running jobs are registered in it.
downlink_lease = Place("leases/downlink-{dl}")
run_lease = Place("leases/run-{run}")  # lease under which the state of a run is read and changed

# The output of the job that reports why a target cannot be made; the file is never made.
refused = Place("refused/{target}")

staged = Place("{dl}")  # files of a downlink for Level-1, relative to `paths.stage`
# Directory with the event files of a run, relative to `paths.stage`, and the name of one: the run and the sequence of
# its first event (ground-chain §6).
staged_run = Place("{dl}/{l1_run}")
event_file = Place("{l1_run}-e{sequence:020d}.evt")
text = Place("{name}_{dl}.txt")  # name of a text for Level-1, for example ``delivered_events_230401001.txt``
tokens = Place("chunktokens/{l1_run}")  # directory with the chunk tokens of a run, relative to `paths.stage`
# Token that keeps Level-1 from retiring a run while a downlink is in progress.
halt_cleanup = Place("chunktokens/{l1_run}/haltCleanup-{dl}")
stage_scratch = Place(".halfpipe/{dl}-{what}")  # a scratch directory on the stage's file system

# File of a run for Online, relative to `paths.online` (ground-chain §7).
online_file = Place("{ground_id:08x}-{run}.evt")
board_page = Place("{dl}.html")  # the board's page of a downlink, relative to `board.dir`
board_run = Place("run-{run}.html")  # the board's page of a run, relative to `board.dir`


def halt(switch: str, dl: str | None = None) -> str:
    """Return the halt switch for one downlink, or for all."""
    return f"{dl or 'halts'}/{switch}"


def log(rule: str, *ids: str) -> str:
    """Return the log of a job, which moves to `done_log` on success; `ids` are its wildcards, downlink first."""
    return "/".join([LOGS, ids[0], "-".join([rule, *ids[1:]]) + ".log"])

"""Where every file lies, and nothing else knows it.

Each function gives a path relative to `paths.work` (or, where it says so, to `paths.stage`, `paths.online` or
`board.dir`). Called
without arguments it returns the pattern with the wildcards open; called with ids, a file.
"""

import base64

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


def copies(place: str) -> str:
    """Return where the second copies of a series of records are, whose first are in `place`."""
    return f"copies/{place}"


def retdef(dl: str = DL, chunk: str = CHUNK) -> str:
    """Return the staged RetDef of a chunk."""
    return f"{dl}/RetDef-{dl}-{chunk}.xml"


def chunks(dl: str = DL) -> str:
    """Return the directory of the chunk products of a downlink."""
    return f"{dl}/chunks"


def chunk(dl: str = DL, chunk: str = CHUNK) -> str:
    """Return the file that vouches for what the decoder made of a chunk."""
    return f"{chunks(dl)}/{chunk}.json"


def chunk_scratch(dl: str, chunk: str) -> str:
    """Return the directory that the decoder of a chunk writes into."""
    return f"{chunks(dl)}/.{chunk}.part"


def replaced(dl: str) -> str:
    """Return where the products of chunks are kept that were decoded anew, until the downlink is handed off."""
    return f"{chunks(dl)}/.replaced"


def run(run: str = RUN) -> str:
    """Return the directory of what is known of a run."""
    return f"{RUNS}/{run}"


def datagrams(run_: str, dl: str) -> str:
    """Return the DGM part of a merged index: small, never deleted."""
    return f"{run(run_)}/{dl}/datagrams.idx"


def events(run_: str, dl: str) -> str:
    """Return the EVT part of a merged index: large, can be made again."""
    return f"{run(run_)}/{dl}/events.npy"


def chunk_list(run_: str, dl: str) -> str:
    """Return the list of the chunk products that a merged index was made from: never deleted."""
    return f"{run(run_)}/{dl}/chunks.json"


def manifest(run_: str = RUN, dl: str = DL) -> str:
    """Return the file that vouches for the staged event files of a run within a downlink."""
    return f"{run(run_)}/{dl}/manifest.json"


def deliveries(run_: str) -> str:
    """Return the directory of the records of what was delivered of a run."""
    return f"{run(run_)}/deliveries"


def context(run_: str) -> str:
    """Return the scratch directory for chunks that are decoded again as context of a merge."""
    return f"{run(run_)}/.context"


def receipt(dl: str = DL) -> str:
    """Return the receipt of a downlink: what a user names as the target."""
    return f"dl={dl}"


def receipts(dl: str) -> str:
    """Return the directory of the records of a downlink's hand-offs: the last one is its receipt."""
    return f"{dl}/receipts"


def taken_over(dl: str) -> str:
    """Return what says from where a downlink was taken over, and which files of the legacy were read."""
    return f"{dl}/taken-over.json"


def submitted(dl: str = DL) -> str:
    """Return what says that a downlink was submitted to Level-1: a target for users, as the receipt is."""
    return f"submit={dl}"


def drawn(dl: str = DL) -> str:
    """Return the file that vouches for the pictures of a downlink: what a person asks for."""
    return f"pictures={dl}"


def pictures(dl: str = DL) -> str:
    """Return the directory of the pictures of a downlink's runs."""
    return f"{dl}/pictures"


def submissions(dl: str) -> str:
    """Return the directory of the records of what was done to submit the hand-offs of a downlink to Level-1."""
    return f"{dl}/submissions"


def submit_line(dl: str) -> str:
    """Return the command line for a person to give, where the config has no command that submits."""
    return f"{dl}/submit.txt"


def halt(switch: str, dl: str | None = None) -> str:
    """Return the halt switch for one downlink, or for all."""
    return f"{dl or 'halts'}/{switch}"


def acknowledged(what: str) -> str:
    """Return what a person has said of who is on a downlink, a run or a cause, and until when."""
    return f"acknowledged/{what}"


def online_file(ground_id: int, run_: str) -> str:
    """Return the name of the file of a run for Online, relative to `paths.online` (ground-chain §7)."""
    return f"{ground_id:08x}-{run_}.evt"


def online_record(run_: str) -> str:
    """Return the directory of the records of what was done to hand a run to Online."""
    return f"{run(run_)}/online"


def repipe(dl: str = DL) -> str:
    """Return the directory of one of them; what lies in it makes its id used, so it stays."""
    return f"{REPIPES}/{dl}"


def repipe_config(dl: str = DL) -> str:
    """Return its config, which is written when all else is there."""
    return f"{repipe(dl)}/config.yaml"


def repipe_retdefs(dl: str = DL) -> str:
    """Return the place on its own search path that has its RetDefs."""
    return f"{repipe(dl)}/retdefs"


def repipe_moot(dl: str = DL) -> str:
    """Return the MOOT key and alias of its run, where the ledger maps them."""
    return f"{repipe(dl)}/moot.txt"


def repipe_work(dl: str = DL) -> str:
    """Return its own working directory."""
    return f"{repipe(dl)}/work"


def repipe_stage(dl: str = DL) -> str:
    """Return its own stage."""
    return f"{repipe(dl)}/stage"


def repipe_record(run_: str = RUN) -> str:
    """Return the directory of the records of the made-up downlinks by which a run was processed once more."""
    return f"{run(run_)}/repipes"


def record_of_snakemake(product: str) -> str:
    """Return what Snakemake has noted of a product: the inputs that it was made of, and more."""
    return f".snakemake/metadata/{base64.urlsafe_b64encode(product.encode()).decode()}"


def settings(name: str) -> str:
    """Return the settings that a command has resolved for its jobs, named by their content."""
    return f"{ALL_SETTINGS}/{name}.json"


def loaded(dl: str = DL) -> str:
    """Return the file that vouches for a downlink's being in the ledger."""
    return f"{dl}/ledger.json"


def log(rule: str, *ids: str) -> str:
    """Return the log of a job, which goes to `done_log` if that ends well; `ids` are its wildcards, downlink first."""
    return "/".join([LOGS, ids[0], "-".join([rule, *ids[1:]]) + ".log"])


def job_logs(dl: str) -> str:
    """Return the directory of what the jobs of a downlink leave: logs, why they failed, what they took."""
    return f"{LOGS}/{dl}"


def done_log(dl: str) -> str:
    """Return the logs of the jobs of a downlink that ended well, one after the other."""
    return f"{job_logs(dl)}/{DONE_LOG}"


def usage(dl: str) -> str:
    """Return what the jobs of a downlink that ended well took of time and memory, a line a try."""
    return f"{job_logs(dl)}/{USAGE}"


def kept_indexes(dl: str) -> str:
    """Return the directory of what `decode_chunk` has read of a downlink's indexes: a cache for `deliver_run`."""
    return f".cache/indexes/{dl}"


def kept_index(dl: str, name: str) -> str:
    """Return what was read of the index `name`."""
    return f"{kept_indexes(dl)}/{name}.rows"


def downlink_lease(dl: str) -> str:
    """Return the lease of the process at work on a downlink; its running jobs are registered in it."""
    return f"{LEASES}/downlink-{dl}"


def run_lease(run_: str) -> str:
    """Return the lease under which the state of a run is read and changed."""
    return f"{LEASES}/run-{run_}"


def reprocessing(name: str) -> str:
    """Return the file whose time says since when downlinks are regenerated, until all are."""
    return f"{BATCH_LOGS}/again-{name}.json"


def staged(dl: str) -> str:
    """Return what Level-1 gets of a downlink, relative to `paths.stage`."""
    return dl


def staged_run(dl: str, l1_run: str) -> str:
    """Return the directory of the event files of a run, relative to `paths.stage`."""
    return f"{staged(dl)}/{l1_run}"


def event_file(l1_run: str, sequence: int) -> str:
    """Return the name of an event file: the run and the sequence of its first event (ground-chain §6)."""
    return f"{l1_run}-e{sequence:020d}.evt"


def text(name: str, dl: str) -> str:
    """Return the name of a text for Level-1, as in ``delivered_events_230401001.txt``."""
    return f"{name}_{dl}.txt"


def tokens(l1_run: str) -> str:
    """Return the directory of the chunk tokens of a run, relative to `paths.stage`."""
    return f"chunktokens/{l1_run}"


def halt_cleanup(dl: str, l1_run: str) -> str:
    """Return the token that keeps Level-1 from retiring a run while a downlink is in work."""
    return f"{tokens(l1_run)}/haltCleanup-{dl}"


def stage_scratch(dl: str, what: str) -> str:
    """Return a scratch directory on the stage's file system."""
    return f"{STAGE_SCRATCHES}/{dl}-{what}"


def board_page(dl: str) -> str:
    """Return the board's page of a downlink, relative to `board.dir`."""
    return f"{dl}.html"

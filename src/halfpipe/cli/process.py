"""`halfpipe process`."""

import shlex
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import click

from halfpipe import paths
from halfpipe.causes import Cause, Verdict
from halfpipe.cli import printed
from halfpipe.cli.verbs import EITHER, SEVERAL, Site, Verb, cores
from halfpipe.errors import HalfPipeError, Remedy
from halfpipe.files.durable import remove_file
from halfpipe.ids import DownlinkId, RunId
from halfpipe.run.receipt_file import hand_offs, read_receipt
from halfpipe.site import batches, run_alone
from halfpipe.site.batches import Batches
from halfpipe.site.invocation import running
from halfpipe.status import slurm_queue
from halfpipe.status.account import account
from halfpipe.status.survey import Survey
from halfpipe.words import count

MOST_SHOWN = 20  # causes that are printed
SAY_SECONDS = 60.0  # between two progress lines


@click.command(
    "process",
    cls=Verb,
    examples=[
        ("halfpipe process 2023-04", "the outstanding downlinks of a month"),
        ("halfpipe process 230401001..230401018", "a range of downlinks"),
        ("halfpipe process 2023-04 --again", "regenerate a month, and list what changed"),
        ("halfpipe process r0702010205", "one run, from all level-0 data, into its own stage"),
    ],
    statuses={
        0: "all ready downlinks are handed off; the run is in its own stage",
        1: "something is not handed off, or needs action",
        130: "ended by SIGINT, with all jobs (143: by SIGTERM)",
    },
)
@click.argument(
    "what", nargs=-1, required=True, type=EITHER, metavar="DL...|RUN", help=f"{SEVERAL}; or one run."
)
@click.option(
    "--again", is_flag=True, help="Reprocess downlinks that were handed off, and list what changed."
)
@cores
def command(
    site: Site,
    what: tuple[DownlinkId | RunId, ...],
    again: bool,
    cores: int | None,
) -> int:
    """Process many downlinks up to their hand-off, or one run on its own.

    Snakemake processes batches of neighboring downlinks, on this host, or in Slurm if the profile runs jobs there. A
    downlink that fails stops no other one. Downlinks that wait for RetDefs, are held, or are in progress elsewhere are
    skipped and listed. Nothing is submitted to Level-1. The same command continues where it ended.

    A run is processed from all its data in the level-0 archive, as a made-up downlink with its own working
    directory and stage in repipe/ under paths.work. The records of deliveries do not change. Level-1 gets
    the run only by hand: first roll back the earlier data of the run.
    """
    downlinks = tuple(one for one in what if isinstance(one, DownlinkId))
    if len(downlinks) < len(what) > 1:
        raise click.UsageError("Name downlinks, or one run alone.")
    if again and not downlinks:
        raise click.UsageError("--again goes with downlinks.")
    # A shell starts background commands with SIGINT ignored, and Snakemake would inherit that.
    signal.signal(signal.SIGINT, signal.getsignal(signal.SIGTERM))
    if not downlinks:
        return _process_run(site, RunId(what[0]), cores)
    file, earlier = batches.begin_again(site.work, downlinks) if again else (None, False)
    batch = Batches.of(site.settings, downlinks, file.stat().st_mtime if file else 0.0)
    for line in batch.messages:
        click.echo(line)
    what_for = "to be regenerated" if again else "outstanding"
    click.echo(f"{len(batch.todo):,} of {count(len(downlinks), 'downlink')} {what_for}")
    if earlier:
        click.echo(f"the rest was regenerated before; to regenerate all of them, first: rm {file}")
    begun = said = time.monotonic()
    try:
        for _ in batch.run(site.snakemake(cores)):
            if time.monotonic() - said >= SAY_SECONDS:
                said = time.monotonic()
                click.echo(_progress(batch, begun))
    except (SystemExit, HalfPipeError):
        click.echo(f"ended: {_progress(batch, begun)}\nto continue: {_same_command()}")
        raise
    finally:
        for line in _changes(site.work, batch.done, batch.since) if again else ():
            click.echo(line)
    if batch.todo:
        click.echo(_progress(batch, begun))
    if file and set(batch.todo) == {*batch.done}:
        remove_file(file)
    problems = list(_problems(site, batch))
    for downlink, cause in problems[:MOST_SHOWN]:
        printed.cause(downlink, cause)
    if len(problems) > MOST_SHOWN:
        click.echo(
            f"and {len(problems) - MOST_SHOWN} more: halfpipe status {batch.todo[0]}..{batch.todo[-1]}"
        )
    if batch.failed or batch.left:
        click.echo(f"to try the rest again: {_same_command()}")
    return 1 if problems or batch.failed else 0


def _process_run(site: Site, run: RunId, cores: int | None) -> int:
    downlink = run_alone.prepare(site.settings, run)
    config = site.work / paths.repipe_config(downlink)
    click.echo(f"run {run} is processed as downlink {downlink}", err=True)
    work = site.work / paths.repipe_work(downlink)
    log = work / paths.batches_log(downlink)
    snakemake_call = Site(site.profile_name, (config,)).snakemake(cores)
    with running(snakemake_call.command(paths.receipt(downlink)), log) as snakemake:
        status = snakemake.wait()
    if status:
        raise HalfPipeError(
            f"run {run} was not delivered by downlink {downlink}; its log: {log}. Fix this, then rerun the command, "
            f"which begins again. To continue instead: snakemake dl={downlink} --configfile {config}"
        )
    entries = {entry["run"]: entry for entry in read_receipt(work, downlink)["runs"]}
    own = entries.pop(run, {"files": [], "waiting": 0})
    events = sum(file["events"] for file in own["files"])
    left = f", {count(own['waiting'], 'event waits', 'events wait')}" if own["waiting"] else ""
    click.echo(
        f"run {run} ({run.l1}) as downlink {downlink}: {count(events, 'event')} in "
        f"{count(len(own['files']), 'file')}{left}: {site.work / paths.repipe_stage(downlink) / downlink}"
    )
    for other in entries:
        click.echo(
            f"the output also has run {other}, whose packets were not requested: do not give that directory to "
            "Level-1. See the logs of the chunks."
        )
    return 1 if entries or not own["files"] else 0


def _progress(batch: Batches, begun: float) -> str:
    done, left = len(batch.done), len(batch.todo) - len(batch.done)
    hours = max(time.monotonic() - begun, 1.0) / 3600
    words = [f"{done:,} of {len(batch.todo):,} handed off", f"{done / hours:,.0f} an hour"]
    if done and left:
        ends = datetime.now(UTC) + timedelta(hours=hours / done * left)
        words.append(f"the last one at {ends:%Y-%m-%d %H:%M} UTC")
    waits = filter(None, [batch.waits, *(cause.text for cause in slurm_queue.troubles())])
    return "; waits: ".join([", ".join(words), *waits])


def _changes(work: Path, done: Sequence[DownlinkId], since: float) -> Iterator[str]:
    """Yield lines that compare the receipts of reprocessed downlinks with those from before the Unix time `since`."""
    from halfpipe.tables.handoff_diff import changed_bytes, changed_runs, sentences  # noqa: PLC0415 - pandas

    same = 0
    for dl in done:
        try:
            made = [handoff.receipt for handoff in hand_offs(work, dl) if (handoff.made or 0.0) < since]
            before = made[-1] if made else None
            found = list(sentences(changed_bytes(changed_runs(before, read_receipt(work, dl)))))
        except HalfPipeError as error:
            found = [f"the changes cannot be compared: {error}"]
        yield from (f"{dl}  {line}" for line in found)
        same += not found
    if done:
        yield f"{same:,} of {count(len(done), 'downlink')}: the same events in the same files, byte for byte"


def _problems(site: Site, batch: Batches) -> Iterator[tuple[DownlinkId, Cause]]:
    """Yield the causes of downlinks that are not handed off or need action."""
    survey = Survey(site.settings)
    for dl in batch.todo:
        if (why := batch.left.get(dl)) is not None:
            yield dl, Cause(why.code, Verdict.NOTE, f"skipped: {why.text}")
            continue
        causes, is_done = account(survey, dl).causes, dl in batch.done
        if not is_done and not any(cause.verdict is Verdict.ACTION for cause in causes):
            why = batch.ends.get(dl) or batches.UNKNOWN
            yield dl, Cause(why.code, Verdict.ACTION, why.text, Remedy(f"snakemake dl={dl}"))
            continue
        yield from ((dl, cause) for cause in causes if cause.verdict is Verdict.ACTION or not is_done)


def _same_command() -> str:
    return shlex.join(["halfpipe", *sys.argv[1:]])

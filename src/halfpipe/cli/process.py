"""`halfpipe process`."""

import shlex
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import click

from halfpipe.causes import Cause, Verdict
from halfpipe.cli import printed
from halfpipe.cli.verbs import DOWNLINK, SEVERAL, Site, Verb, cores
from halfpipe.errors import HalfPipeError, Remedy
from halfpipe.files.durable import remove_file
from halfpipe.ids import DownlinkId
from halfpipe.operate import batches
from halfpipe.operate.batches import Batches
from halfpipe.state.hand_offs import current, hand_offs
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
    ],
    statuses={
        0: "all ready downlinks are handed off",
        1: "something is not handed off, or needs action",
        130: "ended by SIGINT, with all jobs (143: by SIGTERM)",
    },
)
@click.argument("downlinks", nargs=-1, required=True, type=DOWNLINK, metavar="DL...", help=f"{SEVERAL}.")
@click.option(
    "--again", is_flag=True, help="Reprocess downlinks that were handed off, and list what changed."
)
@cores
def command(
    site: Site,
    downlinks: tuple[DownlinkId, ...],
    again: bool,
    cores: int | None,
) -> int:
    """Process many downlinks up to their hand-off.

    Snakemake processes batches of neighboring downlinks, on this host, or in Slurm if the profile runs jobs there. A
    downlink that fails does not stop the others. Downlinks that wait for RetDefs, are held, or are in progress
    elsewhere are skipped and listed. Nothing is submitted to Level-1. To continue, repeat the command.
    """
    # A shell starts background commands with SIGINT ignored, and Snakemake would inherit that.
    signal.signal(signal.SIGINT, signal.getsignal(signal.SIGTERM))
    file, earlier = batches.begin_again(site.work, downlinks) if again else (None, False)
    batch = Batches.of(site.settings, downlinks, file.stat().st_mtime if file else 0.0)
    what_for = "to be regenerated" if again else "outstanding"
    of_all = f"{len(batch.todo):,} of {count(len(downlinks), 'downlink')} {what_for}"
    click.echo(f"{of_all} and ready; the others:" if batch.messages else of_all)
    for line in batch.messages:
        click.echo(line)
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


def _progress(batch: Batches, begun: float) -> str:
    done = len(batch.done)
    left = len(batch.todo) - len(batch.done)
    hours = max(time.monotonic() - begun, 1.0) / 3600
    words = [f"{done:,} of {len(batch.todo):,} handed off", f"{done / hours:,.0f} an hour"]
    if done and left:
        ends = datetime.fromtimestamp(time.time(), UTC) + timedelta(hours=hours / done * left)
        words.append(f"the last one at {ends:%Y-%m-%d %H:%M} UTC")
    waits = filter(None, [batch.waits, *(cause.text for cause in slurm_queue.troubles())])
    return "; waits: ".join([", ".join(words), *waits])


def _changes(work: Path, done: Sequence[DownlinkId], since: float) -> Iterator[str]:
    """Yield lines that compare the receipts of reprocessed downlinks with those from before the Unix time `since`."""
    from halfpipe.tables.handoff_diff import changed_bytes, changed_runs, sentences  # noqa: PLC0415 - pandas

    same = 0
    for dl in done:
        try:
            made = [handoff for handoff in hand_offs(work, dl) if (handoff.made or 0.0) < since]
            before = made[-1] if made else None
            found = list(sentences(changed_bytes(changed_runs(before, current(work, dl)))))
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
        causes = account(survey, dl).causes
        is_done = dl in batch.done
        if not is_done and not any(cause.verdict is Verdict.ACTION for cause in causes):
            why = batch.ends.get(dl) or batches.UNKNOWN
            yield dl, Cause(why.code, Verdict.ACTION, why.text, Remedy(f"snakemake dl={dl}"))
            continue
        yield from ((dl, cause) for cause in causes if cause.verdict is Verdict.ACTION or not is_done)


def _same_command() -> str:
    return shlex.join(["halfpipe", *sys.argv[1:]])

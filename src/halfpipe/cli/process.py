"""`halfpipe process`."""

import shlex
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import click

from halfpipe.causes import Verdict
from halfpipe.cli.verbs import DOWNLINK, SEVERAL, Site, Verb, cores
from halfpipe.errors import HalfPipeError
from halfpipe.ids import DownlinkId
from halfpipe.run.receipt_file import hand_offs, read_receipt
from halfpipe.site import batches
from halfpipe.site.batches import MOST, Reprocessing, Work
from halfpipe.status.account import Site as Looked
from halfpipe.status.account import account
from halfpipe.words import count

MOST_SHOWN = 20  # downlinks of which the causes are printed


@click.command(
    "process",
    cls=Verb,
    examples=[
        ("halfpipe process 2023-04", "what is outstanding of a month"),
        ("halfpipe process 230401001..230401018", "from one downlink to another"),
        ("halfpipe process 2023-04 --again", "all of it anew, and say what has changed"),
    ],
    statuses={
        0: "all that was ready is handed off",
        1: "some are not, or need action",
        130: "ended by SIGINT, with all that it had started",
        143: "ended by SIGTERM, with all that it had started",
    },
)
@click.argument("downlinks", nargs=-1, required=True, type=DOWNLINK, metavar="DL...", help=f"{SEVERAL}.")
@click.option("--again", is_flag=True, help="Process again what was handed off; say what changed.")
@click.option(
    "--batch", type=click.IntRange(1, MOST), default=MOST, show_default=True, help="Downlinks in one go."
)
@cores
def command(site: Site, downlinks: tuple[DownlinkId, ...], again: bool, batch: int, cores: int | None) -> int:
    """Process many downlinks in batches, oldest first, up to their hand-off.

    Each batch is an invocation of snakemake with the same profile and config. A downlink that fails stops no other
    one; what waits for RetDefs, is held, or is in work elsewhere is left alone and named. Nothing is submitted to
    Level-1, whatever submit.automatic says.

    You can end it at any time: the same command goes on with what is outstanding. With --again it goes on with
    those that are not regenerated yet.
    """
    # A shell starts what it puts into the background with SIGINT ignored, and Snakemake would inherit that.
    for number in (
        signal.SIGINT,
        *([] if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN else [signal.SIGHUP]),
    ):
        signal.signal(number, signal.getsignal(signal.SIGTERM))
    options = site.snakemake_options(cores)
    anew = Reprocessing(site.work, downlinks) if again else None
    work = batches.work_on(site.settings, downlinks, anew)
    for line in _beginning(work, anew, batch):
        click.echo(line)
    begun = time.monotonic()
    try:
        _run(site, options, work, anew, batch, begun)
    except (SystemExit, HalfPipeError):
        click.echo(f"ended: {_standing(work, begun)}\nto go on: {_same_command()}")
        raise
    click.echo(_standing(work, begun))
    troubles = list(_troubles(site, work))
    for trouble in troubles[:MOST_SHOWN]:
        click.echo(trouble)
    if len(troubles) > MOST_SHOWN:
        click.echo(f"and {len(troubles) - MOST_SHOWN} more: halfpipe status {work.todo[0]}..{work.todo[-1]}")
    if work.failed or work.left:
        click.echo(f"to try again what is left: {_same_command()}")
    return 1 if troubles or work.failed else 0


def _run(
    site: Site, options: Sequence[str], work: Work, anew: Reprocessing | None, batch: int, begun: float
) -> None:
    from tqdm import tqdm  # noqa: PLC0415 - takes time to import

    # None: a bar only where a person looks at it.
    with tqdm(total=len(work.todo), unit=" downlinks", disable=None) as bar:

        def moved(done: int) -> None:
            bar.update(done - bar.n)

        def ended(fresh: Sequence[DownlinkId], log: Path) -> None:
            if anew is not None:
                for line in _changes(site.work, fresh, anew):
                    tqdm.write(line)
            seconds = time.monotonic() - begun
            left = len(work.todo) - len(work.done)
            rest = (
                f", {tqdm.format_interval(seconds / len(work.done) * left)} left"
                if work.done and left
                else ""
            )
            tqdm.write(f"{_standing(work, begun)}{rest}; last batch: {log}")

        batches.run(site.settings, options, work, anew, batch, ended, moved)


def _beginning(work: Work, anew: Reprocessing | None, batch: int) -> Iterator[str]:
    """Yield what there is to do, and what is left alone."""
    yield from work.told
    what = "to be regenerated" if anew else "outstanding"
    of = f"{len(work.todo):,} of {count(len(work.named), 'downlink')} {what}"
    yield f"{of}, in {count(-(-len(work.todo) // batch), 'batch', 'batches')}" if work.todo else of
    if anew is not None and anew.begun_earlier:
        yield f"the rest was regenerated before; to begin with all of them, first: rm {anew.file}"


def _standing(work: Work, begun: float) -> str:
    hours = max(time.monotonic() - begun, 1.0) / 3600
    return f"{len(work.done):,} of {len(work.todo):,} handed off, {len(work.done) / hours:,.0f} an hour"


def _changes(work: Path, fresh: Sequence[DownlinkId], anew: Reprocessing) -> Iterator[str]:
    """Yield what reprocessing has changed of downlinks, by the receipts of their hand-offs."""
    from halfpipe.tables.handoff_diff import changed_bytes, changed_runs, sentences  # noqa: PLC0415 - pandas

    same = 0
    for dl in fresh:
        try:
            made = {handoff.number: handoff.receipt for handoff in hand_offs(work, dl)}
            before = made[anew.before[dl]] if anew.before[dl] else None
            found = list(sentences(changed_bytes(changed_runs(before, read_receipt(work, dl)))))
        except HalfPipeError as error:
            found = [f"the changes cannot be compared: {error}"]
        yield from (f"{dl}  {line}" for line in found)
        same += not found
    if fresh:
        yield f"{same:,} of {count(len(fresh), 'downlink')}: the same events in the same files, byte for byte"


def _troubles(site: Site, work: Work) -> Iterator[str]:
    """Yield why downlinks are not handed off, or need action though they are."""
    looked = Looked(site.settings)
    for dl in work.todo:
        if dl in work.left:
            yield f"{dl}: left alone: {work.left[dl]}"
            continue
        try:
            causes = account(looked, dl).causes
        except (HalfPipeError, OSError) as error:
            yield f"{dl}: {error}"
            continue
        for cause in causes:
            if cause.verdict is Verdict.ACTION or dl not in work.done:
                yield f"{dl}: {cause.text}" + (f"\n→ {cause.do}" if cause.do else "")


def _same_command() -> str:
    return shlex.join(["halfpipe", *sys.argv[1:]])

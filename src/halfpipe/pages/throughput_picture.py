"""The picture of how fast jobs were from day to day: events, speed, and how long a job took."""

from typing import TYPE_CHECKING

from halfpipe.errors import MissingInputError
from halfpipe.pages import drawn
from halfpipe.pages.drawn import BLUE, GREEN, GREY, ORANGE, PURPLE, VERMILION
from halfpipe.words import count

if TYPE_CHECKING:
    import pandas as pd

LINES = {  # colour, marker and stroke of each rule: it is told apart without colour too
    "stage_retdef": (GREEN, "v", ":"),
    "decode_chunk": (BLUE, "o", "-"),
    "deliver_run": (ORANGE, "s", "--"),
    "receipt": (PURPLE, "^", "-."),
    "submit": (VERMILION, "D", (0, (1, 1))),
}
OTHER = (GREY, "P", "-")
DRAWN = {  # what stands beside each axis
    "events": "events that jobs made",
    "events/s": "events / s of one job",
    "median_s": "seconds of a job, median",
}
MAKE_EVENTS = ["decode_chunk", "deliver_run"]


def picture(rates: "pd.DataFrame", kind: str, note: str = "") -> bytes:
    """Return the picture of what `halfpipe.tables.jobs.rates` has by day and rule.

    Parameters
    ----------
    rates
        A row for each day and rule.
    kind
        ``svg`` or ``png``.
    note
        A word that stands below it.

    Raises
    ------
    MissingInputError
        If there is no day.
    HalfPipeError
        If there is no such kind of picture.
    """
    import pandas as pd  # noqa: PLC0415 - only who draws has it loaded

    if rates.empty:
        raise MissingInputError("no job has a record of what it took, so there is nothing to draw")
    days = sorted(set(rates["day"]))
    title = f"Throughput on {days[0]}" if len(days) == 1 else f"Throughput from {days[0]} to {days[-1]}"
    # Days without jobs are there too: a line breaks at them.
    every = [f"{day:%Y-%m-%d}" for day in pd.date_range(days[0], days[-1])]

    def paint(*panels: drawn.Axes) -> list[drawn.Mark]:
        for axes, (column, label) in zip(panels, DRAWN.items(), strict=True):
            table = rates.pivot_table(column, "day", "rule").reindex(every)
            for rule in table if column == "median_s" else table.columns.intersection(MAKE_EVENTS):
                colour, marker, stroke = LINES.get(rule, OTHER)
                marker = marker if len(every) <= 14 else ""
                axes.plot(every, table[rule], color=colour, marker=marker, linestyle=stroke, label=rule)
            axes.set_ylabel(label)
            axes.set_ylim(bottom=0)
            axes.grid(axis="y", color="#E5E5E5")
            axes.set_xticks(every[:: -(-len(every) // 7)])
        panels[-1].legend(loc="upper left", bbox_to_anchor=(1.005, 1), frameon=False)
        panels[-1].set_xlabel("day on which the jobs began, UTC")
        return []

    jobs = f"{count(int(rates['jobs'].sum()), 'job')} on {count(len(days), 'day')}."
    return drawn.picture(kind, title, [jobs], note, [2.2, 2.2, 2.2], paint)

"""Numbers for Prometheus, as its node exporter reads them from a text file (``*.prom``).

The form is Prometheus's text exposition format 0.0.4: a line a number, before it what it means and of which kind.
"""

from collections.abc import Iterator, Mapping

from halfpipe.causes import Verdict
from halfpipe.status.account import Site
from halfpipe.status.overview import DAY, Overview
from halfpipe.status.site_causes import last_turn, youngest_retdef
from halfpipe.tables.latency import latency, median_and_95

LATENCY_DAYS = 7.0  # over which latency is told

Labelled = Mapping[str, float]


def text(site: Site, found: Overview) -> str:
    """Return the numbers of a site.

    Parameters
    ----------
    site, found
        What was looked at, and the accounts of its downlinks.
    """
    lines = []
    for name, said, values in _numbers(site, found):
        lines += [f"# HELP halfpipe_{name} {said}", f"# TYPE halfpipe_{name} gauge"]
        lines += [f"halfpipe_{name}{label} {value:.15g}" for label, value in values.items()]
    return "\n".join(lines) + "\n"


def _numbers(site: Site, found: Overview) -> Iterator[tuple[str, str, Labelled]]:
    """Yield each number's name, what it means, and its values by their labels; none that is not known."""
    verdicts = [one.verdict for one in found.accounts]
    yield (
        "downlinks",
        "Downlinks that are looked at, by verdict.",
        {f'{{verdict="{verdict}"}}': verdicts.count(verdict) for verdict in Verdict},
    )
    causes = [cause.verdict for cause in found.site]
    yield (
        "site_troubles",
        "Troubles of the site that belong to no single downlink, by verdict.",
        {f'{{verdict="{verdict}"}}': causes.count(verdict) for verdict in (Verdict.ACTION, Verdict.NOTE)},
    )
    backlog = [one for one in found.accounts if one.handoff is None]
    yield "backlog", "Downlinks that are not handed off.", {"": len(backlog)}
    waits = [one for one in found.accounts if one.handoff is not None and one.submitted != one.handoff]
    yield (
        "backlog_level1",
        "Downlinks with a latest hand-off that was not submitted to Level-1.",
        {"": len(waits)},
    )
    took = list(_latencies(site, found))
    if took:
        middle, late = median_and_95(took)
        yield (
            "latency_seconds",
            f"From the youngest RetDef to the hand-off, of {LATENCY_DAYS:g} days.",
            {'{quantile="0.5"}': middle, '{quantile="0.95"}': late},
        )
    retdef = youngest_retdef(site.settings.paths.retdef, site.now)
    if retdef is not None:
        yield "last_retdef_timestamp_seconds", "When the youngest RetDef came.", {"": retdef[0]}
    turn = last_turn(site.settings.paths.work)
    if turn is not None:
        ended = float(turn["ended"])
        yield "last_turn_timestamp_seconds", "When the last turn of unattended processing ended.", {"": ended}
        if isinstance(turn.get("status"), int):
            yield "last_turn_status", "Its exit status; 0 is good.", {"": turn["status"]}
    yield "looked_at_timestamp_seconds", "When these numbers were taken.", {"": site.now}


def _latencies(site: Site, found: Overview) -> Iterator[float]:
    for one in found.accounts:
        if (one.handed_off or 0.0) >= site.now - LATENCY_DAYS * DAY:
            yield from filter(None, [latency(site.settings, one.downlink).seconds])

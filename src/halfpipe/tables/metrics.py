"""Metrics for Prometheus, in a text file (``*.prom``) for its node exporter.

The file has Prometheus's text exposition format 0.0.4: one line per number, after lines with its meaning and type.
"""

from collections import Counter
from collections.abc import Mapping

from halfpipe.causes import Verdict
from halfpipe.status.account import Survey
from halfpipe.status.overview import DAY, Overview
from halfpipe.status.site_causes import last_turn
from halfpipe.tables.weekly import latency, median_and_95

LATENCY_DAYS = 7.0  # the latency is that of the last days


def text(site: Survey, found: Overview) -> str:
    """Return the metrics of a site, without those that are unknown.

    Parameters
    ----------
    site, found
        The survey of the site, and the accounts of its downlinks.
    """
    accounts, since = found.accounts, site.now - LATENCY_DAYS * DAY
    verdicts, of_site = (Counter(one.verdict for one in several) for several in (accounts, found.site))
    handed_off = [one for one in accounts if one.handoff is not None]
    latest = [latency(site.settings, one.downlink) for one in accounts if (one.handed_off or 0.0) >= since]
    took = [seconds for seconds in latest if seconds is not None]
    turn = last_turn(site.work) or {}
    status = turn.get("status")
    numbers: dict[str, tuple[str, Mapping[str, float | None]]] = {
        "downlinks": (
            "Recent downlinks, by verdict.",
            {f'{{verdict="{verdict}"}}': verdicts[verdict] for verdict in Verdict},
        ),
        "site_troubles": (
            "Site-wide problems, by verdict.",
            {f'{{verdict="{verdict}"}}': of_site[verdict] for verdict in (Verdict.ACTION, Verdict.NOTE)},
        ),
        "backlog": ("Downlinks that are not handed off yet.", {"": len(accounts) - len(handed_off)}),
        "backlog_level1": (
            "Downlinks whose latest hand-off is not submitted to Level-1.",
            {"": sum(one.submitted != one.handoff for one in handed_off)},
        ),
        "latency_seconds": (
            f"Time from the last event to the first hand-off, for downlinks of the last {LATENCY_DAYS:g} days.",
            dict(
                zip(
                    ('{quantile="0.5"}', '{quantile="0.95"}'),
                    median_and_95(took) if took else (),
                    strict=False,
                )
            ),
        ),
        "last_retdef_timestamp_seconds": (
            "When the latest RetDef arrived.",
            {"": site.last_retdef or None},
        ),
        "last_turn_timestamp_seconds": (
            "When the last turn of unattended processing ended.",
            {"": turn.get("ended")},
        ),
        "last_turn_status": (
            "Exit status of the last turn; 0 is good.",
            {"": status if isinstance(status, int) else None},
        ),
        "looked_at_timestamp_seconds": ("When these numbers were taken.", {"": site.now}),
    }
    lines = []
    for name, (meaning, values) in numbers.items():
        known = {label: value for label, value in values.items() if value is not None}
        head = [f"# HELP halfpipe_{name} {meaning}", f"# TYPE halfpipe_{name} gauge"] if known else []
        lines += [*head, *(f"halfpipe_{name}{label} {value:.15g}" for label, value in known.items())]
    return "\n".join(lines) + "\n"

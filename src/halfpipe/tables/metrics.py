"""Numbers for Prometheus, as its node exporter reads them from a text file (``*.prom``).

The form is Prometheus's text exposition format 0.0.4: a line a number, before it what it means and of which kind.
"""

from collections import Counter
from collections.abc import Mapping

from halfpipe.causes import Verdict
from halfpipe.status.account import Survey
from halfpipe.status.overview import DAY, Overview
from halfpipe.status.site_causes import last_turn
from halfpipe.tables.weekly import latency, median_and_95

LATENCY_DAYS = 7.0  # over which latency is told


def text(site: Survey, found: Overview) -> str:
    """Return the numbers of a site; those that are not known are not there.

    Parameters
    ----------
    site, found
        What was looked at, and the accounts of its downlinks.
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
            "Downlinks that are looked at, by verdict.",
            {f'{{verdict="{verdict}"}}': verdicts[verdict] for verdict in Verdict},
        ),
        "site_troubles": (
            "Troubles of the site that belong to no single downlink, by verdict.",
            {f'{{verdict="{verdict}"}}': of_site[verdict] for verdict in (Verdict.ACTION, Verdict.NOTE)},
        ),
        "backlog": ("Downlinks that are not handed off.", {"": len(accounts) - len(handed_off)}),
        "backlog_level1": (
            "Downlinks with a latest hand-off that was not submitted to Level-1.",
            {"": sum(one.submitted != one.handoff for one in handed_off)},
        ),
        "latency_seconds": (
            f"From the last event to the first hand-off, of {LATENCY_DAYS:g} days.",
            dict(
                zip(
                    ('{quantile="0.5"}', '{quantile="0.95"}'),
                    median_and_95(took) if took else (),
                    strict=False,
                )
            ),
        ),
        "last_retdef_timestamp_seconds": (
            "When the youngest RetDef came.",
            {"": site.last_retdef or None},
        ),
        "last_turn_timestamp_seconds": (
            "When the last turn of unattended processing ended.",
            {"": turn.get("ended")},
        ),
        "last_turn_status": (
            "Its exit status; 0 is good.",
            {"": status if isinstance(status, int) else None},
        ),
        "looked_at_timestamp_seconds": ("When these numbers were taken.", {"": site.now}),
    }
    lines = []
    for name, (said, values) in numbers.items():
        known = {label: value for label, value in values.items() if value is not None}
        head = [f"# HELP halfpipe_{name} {said}", f"# TYPE halfpipe_{name} gauge"] if known else []
        lines += [*head, *(f"halfpipe_{name}{label} {value:.15g}" for label, value in known.items())]
    return "\n".join(lines) + "\n"

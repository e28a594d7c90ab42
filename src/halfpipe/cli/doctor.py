"""`halfpipe doctor`."""

import time
from collections.abc import Iterable
from pathlib import Path

import click

from halfpipe.cli import printed
from halfpipe.cli.verbs import Site, Verb, as_json
from halfpipe.errors import ConfigError
from halfpipe.site import doctor, two_hosts
from halfpipe.status.site_causes import keep_findings

COLORS = {"problem": "red", "unknown": "yellow"}


@click.command(
    "doctor",
    cls=Verb,
    at_work=False,
    examples=[
        ("halfpipe doctor", "before the first downlink, after each upgrade, once a month"),
        ("halfpipe doctor --probe", "also from a second host, by one job in Slurm"),
        ("bash s3df/doctor.sh", "without HalfPipe's environment: a file to mail to a colleague"),
    ],
    statuses={
        0: "the site is ready",
        1: "it is not: there is a problem, or it is unknown whether alarms reach a person",
    },
)
@click.option(
    "--probe",
    "probes",
    is_flag=True,
    help="Submit one job, and test locks, clocks and files between two hosts.",
)
@click.option(
    "--no-message",
    is_flag=True,
    help="Send no test message by alarm.command. The site is not ready without one.",
)
@as_json
def command(site: Site, probes: bool, no_message: bool, as_json: bool) -> int:
    """Check that the site is as HalfPipe assumes, and show what to do about each problem.

    The doctor checks Slurm, the host, each path of the config, the container, the archive, the pipeline's client and
    the ledger within half a minute, and sends a test message by alarm.command. The result is kept: `halfpipe status`
    shows when it has problems, is a month old, or the site has changed since.

    With --probe, the doctor writes to a temporary directory below paths.work and submits one job: two hosts compare
    their clocks, race for numbers, and take and lose a lease. docs/assumptions.md lists the assumptions.
    """
    findings: list[doctor.Finding] = []
    options = ["--no-message"] if no_message else []

    def note(new: Iterable[doctor.Finding]) -> None:
        for each in new:
            findings.append(each)
            if not as_json:
                _print(each)

    profile = site.profile
    try:
        settings = site.settings
        given = doctor.site_of(settings, profile, ", ".join(map(str, site.configfiles)) or "--config")
    except ConfigError as error:  # the script reads the config itself, and reports a missing file system
        note([doctor.finding("problem", "config", error, "correct it, then: halfpipe doctor")])
        options += [f"--config={path}" for path in site.configfiles[-1:]]
        options += [f"--profile={profile.file}"] if profile.name else []
        note(doctor.of_script(None, *options))
    else:
        note(doctor.of_package(settings))
        note(doctor.of_script(given, *options))
        if probes:
            note(two_hosts.probe(settings, profile, given))
        if site.work.is_dir():
            files = [Path(given["names"][name]) for name in ("profile", "flight") if given[name]]
            problems = [one.code for one in findings if one.verdict == "problem"]
            keep_findings(settings, files, problems, time.time())
    ready = doctor.is_ready(findings)
    if as_json:
        printed.as_json(ready=ready, findings=findings)
    else:
        click.echo("ready" if ready else "NOT ready")
    return 0 if ready else 1


def _print(one: doctor.Finding) -> None:
    """Print a finding, as the script does."""
    verdict = printed.tinted(f"{one.verdict:8}", fg=COLORS.get(one.verdict))
    click.echo(f"{verdict} {one.code:18} {one.seen}")
    if one.do:
        click.echo(f"{'':27} do: {one.do}")

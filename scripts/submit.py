#!/usr/bin/env python3
"""Submit one downlink to Level-1, once; or roll its stream back, settle or list what is open.

As a job it is given --work, --stage and the commands; by hand --configfile, as snakemake is. What was
done stands in <dl>/submissions.jsonl under paths.work; docs/submission.md explains it.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from halfpipe import cli, locks
from halfpipe.errors import ConfigError
from halfpipe.ids import DownlinkId
from halfpipe.submission import submit
from halfpipe.submission.command import Template
from halfpipe.submission.record import Outcome

SAID = {
    "submitted": "submitted to Level-1",
    "written": "NOT submitted, the config has no command (submit.command): to give by hand",
    "nothing to submit": "not submitted, it has no event files",
}
HOW = {None: "was cut off", Outcome.WRITTEN: "is written down for a person", Outcome.FAILED: "failed"}


def job(arguments: argparse.Namespace) -> int:
    """Do what the options say."""
    work = arguments.work if arguments.work is not None else cli.settings(arguments).work
    if arguments.open:
        list_open(work)
        return 0
    what = described(arguments, arguments.downlink)
    with locks.downlink_job(what.work, what.downlink), cli.output(arguments.log) as output:
        if arguments.settle:
            attempt = submit.settle(what, arguments.settle == "submitted")
            print(f"downlink {what.downlink}: attempt {attempt.number} is settled, {arguments.settle}")
        elif arguments.rollback:
            submit.roll_back(what, output)
            print(f"downlink {what.downlink}: rolled back in Level-1")
        else:
            content = submit.submit(what, output)
            submit.save(what, content)
            line = f": {content['command']}" if content["state"] == "written" else ""
            number = content["submitted"] or content["handoff"]
            print(f"downlink {what.downlink}, hand-off {number}: {SAID[content['state']]}{line}")
    return 0


def described(arguments: argparse.Namespace, downlink: DownlinkId) -> submit.Job:
    """Return the downlink with the commands that the options give, or else the config."""
    if arguments.work is not None:
        if arguments.stage is None:
            raise ConfigError("--work is given without --stage: give both, or --configfile")
        work, stage, root = arguments.work, arguments.stage, cli.ROOT
        texts = {"command": arguments.command, "check": arguments.check, "rollback": None}
    else:
        settings = cli.settings(arguments)
        work, stage, root = settings.work, settings.stage, settings.root
        texts = {
            "command": settings.submit_command,
            "check": settings.submit_check,
            "rollback": settings.submit_rollback,
        }
    templates = {key: Template(text, f"submit.{key}") if text else None for key, text in texts.items()}
    return submit.Job(work, stage, root, downlink, **templates)


def list_open(work: Path) -> None:
    """Print the attempts of which nobody knows whether they reached Level-1."""
    found = submit.open_attempts(work)
    for downlink, attempt in found:
        how = HOW[attempt.outcome]
        print(f"downlink {downlink}, hand-off {attempt.handoff}: {attempt.action} of {attempt.when} {how}")
    print(f"{len(found)} open")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the program."""
    parser = cli.job_parser(__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    cli.add_configfile(parser)
    parser.add_argument("--work", type=Path, help="paths.work")
    parser.add_argument("--stage", type=Path, help="paths.stage")
    parser.add_argument("--command", help="submit.command")
    parser.add_argument("--check", help="submit.check")
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--downlink", type=cli.downlink, help="230401001 or dl=230401001")
    what.add_argument("--open", action="store_true", help="list what nobody knows to be submitted or not")
    how = parser.add_mutually_exclusive_group()
    how.add_argument("--rollback", action="store_true", help="have Level-1 take the present hand-off again")
    how.add_argument("--settle", choices=["submitted", "not-submitted"], help="say what the pipeline shows")
    return cli.run(job, parser, argv)


if __name__ == "__main__":
    raise SystemExit(main())

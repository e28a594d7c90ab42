#!/usr/bin/env python3
"""Deliver one run of one downlink: merge its indexes, and stage its event files for Level-1 or hold it."""

import argparse
import json
import logging
from collections.abc import Callable, Sequence
from pathlib import Path

from halfpipe import cli, forced, halts, locks, moot, paths
from halfpipe.files import write_json
from halfpipe.handoff import deliver_run, receipt, stage
from halfpipe.ids import ChunkId, RunId, RunKind
from halfpipe.memory import keep_together
from halfpipe.merge.deliver import Policy
from halfpipe.merge.known import Context
from halfpipe.moot import Moot

log = logging.getLogger("halfpipe")


def job(arguments: argparse.Namespace) -> int:
    """Deliver the run, and vouch for its merged index and its staged files."""
    keep_together()
    work, downlink, run = arguments.work, arguments.downlink, arguments.run
    with locks.downlink_job(work, downlink), cli.output(arguments.log) as output:
        halts.refuse(work, halts.Switch.STAGE, downlink)
        # Before the first run is delivered: until the hand-off Level-1 may retire none of them.
        stage.halt_cleanup(arguments.stage, downlink, arguments.runs)
        receipt.withdraw(work, downlink)
        given_up = forced.read(work)
        for complaint in given_up.refused:
            log.warning("%s", complaint)
        program = cli.program(arguments, "simulated_decoder.py")
        context = Context(work, run, program, arguments.latc, output, arguments.without_context)
        what = deliver_run.Job(
            work,
            arguments.stage,
            downlink,
            run,
            tuple(arguments.chunks),
            Policy(**arguments.policy),
            arguments.latc_override,
            moot.moot_of(run, arguments.moot),
            arguments.threads,
            run in given_up.runs,
            arguments.deliver_orphans,
            mapped(arguments),
        )
        merged, manifest = deliver_run.deliver_run(what, context)
        write_json(work / paths.index(run, downlink), merged)
        write_json(work / paths.manifest(run, downlink), manifest)
    return 0


def mapped(arguments: argparse.Namespace) -> Callable[[RunKind, float, int], Moot | None] | None:
    """Return what asks the ledger for the run's MOOT key and alias, None if the config wants no mapping."""
    if arguments.ledger is None:
        return None
    # Only here: the database's library takes as long to load as all else that a job does at its start.
    from halfpipe.ledger.database import Ledger  # noqa: PLC0415
    from halfpipe.ledger.mapping import mapped_by  # noqa: PLC0415

    return mapped_by(Ledger.of(arguments.ledger, arguments.password_file), arguments.run)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the program."""
    parser = cli.downlink_parser(__doc__)
    parser.add_argument("--stage", type=Path, required=True, help="paths.stage")
    parser.add_argument("--run", type=RunId, required=True)
    parser.add_argument("--chunks", type=ChunkId, nargs="*", default=[], help="chunks that bring the run")
    parser.add_argument("--runs", type=RunId, nargs="+", required=True, help="all runs of the downlink")
    parser.add_argument(
        "--policy", type=json.loads, required=True, help="limits of merge in the config, as JSON"
    )
    parser.add_argument("--threads", type=int, default=1, help="event files written at a time")
    parser.add_argument("--latc-override", type=lambda text: int(text, 0), help="merge.latc_override")
    parser.add_argument(
        "--deliver-orphans", type=json.loads, default=True, help="retire.deliver_orphans: true or false"
    )
    parser.add_argument("--without-context", action="store_true", help="merge.without_context")
    parser.add_argument("--moot", type=Path, help="moot.file")
    parser.add_argument("--ledger", help="ledger.url, if moot.mapping is true")
    parser.add_argument("--password-file", type=Path, help="ledger.password_file")
    cli.add_decoder(parser)
    return cli.run(job, parser, argv)


if __name__ == "__main__":
    raise SystemExit(main())

#!/usr/bin/env python3
"""Decode one chunk: run the decoder on its RetDef, check what it made, and take it."""

import argparse
import secrets
from collections.abc import Sequence
from contextlib import ExitStack

from halfpipe import cli, decoder, locks, paths
from halfpipe.files import make_directory, remove_tree, sha256, write_json
from halfpipe.formats.retdef import read_retdef
from halfpipe.handoff import receipt
from halfpipe.ids import ChunkId, RunId


def job(arguments: argparse.Namespace) -> int:
    """Decode the chunk and vouch for its products."""
    work, downlink, chunk = arguments.work, arguments.downlink, arguments.chunk
    retdef_file = work / paths.retdef(downlink, chunk)
    scratch = work / paths.chunk_scratch(downlink, chunk)
    # A decoder that outlived its killed job must not write among our products: each has a name of its own.
    out = scratch / secrets.token_hex(8)
    with locks.downlink_job(work, downlink), cli.output(arguments.log) as output:
        retdef = read_retdef(retdef_file)
        program = cli.program(arguments, "simulated_decoder.py")
        make_directory(work, paths.chunks(downlink))
        remove_tree(scratch)
        made = decoder.decode(
            program,
            retdef_file,
            retdef,
            out,
            arguments.latc,
            output,
            lambda name: work / paths.kept_index(downlink, name),
        )
        for line in made["said"]["lines"]:
            cli.log.warning("chunk %s: %s", chunk, line)
        runs = sorted({RunId(file["run"]) for file in made["files"]})
        receipt.withdraw(work, downlink)
        with ExitStack() as held:
            # In one order everywhere, so that two of these never wait for each other.
            for run in runs:
                held.enter_context(locks.run_locked(work, run, cli.log.info))
            decoder.take_products(out, work / paths.chunks(downlink), chunk)
        remove_tree(scratch)
        content = {"downlink": downlink, "chunk": chunk, "retdef": sha256(retdef_file), "runs": runs} | made
        write_json(work / paths.chunk(downlink, chunk), content)
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    """Run the program."""
    parser = cli.downlink_parser(__doc__)
    parser.add_argument("--chunk", type=ChunkId, required=True)
    cli.add_decoder(parser)
    return cli.run(job, parser, argv)


if __name__ == "__main__":
    raise SystemExit(main())

#!/usr/bin/env python3
"""Decode one chunk: stage its RetDef, run the decoder, check the products, and publish them."""

import argparse
import secrets
from collections.abc import Sequence
from typing import IO

import halfpipe.process.starting  # noqa: F401 - first
from halfpipe import paths
from halfpipe.decode.chunk_products import no_merges, publish_products
from halfpipe.decode.decode_chunk import decode
from halfpipe.files import leases
from halfpipe.files.durable import make_directory, remove_tree, write_bytes
from halfpipe.files.typed import write_stored
from halfpipe.formats.retdef import read_retdef
from halfpipe.ids import ChunkId
from halfpipe.plan import plan
from halfpipe.process import rule_program
from halfpipe.settings import Settings
from halfpipe.state.hand_offs import withdraw
from halfpipe.state.merged_index import keep_known


def job(settings: Settings, arguments: argparse.Namespace, output: IO[str]) -> None:
    """Decode the chunk, and list its products in the chunk's file."""
    work, downlink, chunk = settings.paths.work, arguments.downlink, arguments.chunk
    retdef_file = work / paths.retdef(downlink, chunk)
    scratch = work / paths.chunk_scratch(downlink, chunk)
    # Each attempt has its own directory, because a decoder may outlive its killed job and continue to write.
    out = scratch / secrets.token_hex(8)
    with leases.downlink_job(settings, downlink) as lease:
        content = plan.retdef_to_stage(settings, downlink, chunk)
        lease.check()
        withdraw(work, downlink)
        make_directory(work, paths.chunks(downlink))
        write_bytes(retdef_file, content)
        retdef = read_retdef(retdef_file)
        remove_tree(scratch)
        made = decode(settings, downlink, retdef_file, retdef, out, output)
        for line in made.log.lines:
            rule_program.log.warning("chunk %s: %s", chunk, line)
        with no_merges(settings, downlink, chunk, rule_program.log.warning) as known:
            lease.check()
            keep_known(work, downlink, chunk, known)
            publish_products(out, work / paths.chunks(downlink), chunk)
        remove_tree(scratch)
        lease.check()
        write_stored(work / paths.chunk(downlink, chunk), made)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the program."""
    parser = rule_program.parser(__doc__)
    parser.add_argument("--chunk", type=ChunkId, required=True)
    return rule_program.run(job, parser, argv)


if __name__ == "__main__":
    raise SystemExit(main())

#!/usr/bin/env python3
"""Decode one chunk: run the decoder on its RetDef, check what it made, and take it."""

import argparse
import secrets
from collections.abc import Sequence

from halfpipe import jobs
from halfpipe.decoding.decode import decode
from halfpipe.decoding.products import take_products
from halfpipe.formats.retdef import read_retdef
from halfpipe.handoff.withdrawal import withdraw
from halfpipe.ids import ChunkId, RunId
from halfpipe.runs.replaced import keep_replaced, nobody_reads
from halfpipe.settings import Settings
from halfpipe.storage import leases, paths
from halfpipe.storage.durable import make_directory, remove_tree
from halfpipe.storage.json_files import write_json
from halfpipe.storage.reading import sha256


def job(settings: Settings, arguments: argparse.Namespace) -> None:
    """Decode the chunk and vouch for its products."""
    work, downlink, chunk = settings.paths.work, arguments.downlink, arguments.chunk
    retdef_file = work / paths.retdef(downlink, chunk)
    scratch = work / paths.chunk_scratch(downlink, chunk)
    # A decoder that outlived its killed job must not write among our products: each has a name of its own.
    out = scratch / secrets.token_hex(8)
    with leases.downlink_job(work, downlink) as lease, jobs.output(arguments.log) as output:
        retdef = read_retdef(retdef_file)
        make_directory(work, paths.chunks(downlink))
        remove_tree(scratch)
        made = decode(
            settings, retdef_file, retdef, out, output, lambda name: work / paths.kept_index(downlink, name)
        )
        for line in made["said"]["lines"]:
            jobs.log.warning("chunk %s: %s", chunk, line)
        runs = sorted({RunId(file["run"]) for file in made["files"]})
        lease.check()
        withdraw(work, downlink)
        with nobody_reads(work, downlink, chunk, jobs.log.warning):
            lease.check()
            keep_replaced(work, downlink, chunk)
            take_products(out, work / paths.chunks(downlink), chunk)
        remove_tree(scratch)
        content = {"downlink": downlink, "chunk": chunk, "retdef": sha256(retdef_file), "runs": runs}
        content |= made
        lease.check()
        write_json(work / paths.chunk(downlink, chunk), content)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the program."""
    parser = jobs.parser(__doc__)
    parser.add_argument("--chunk", type=ChunkId, required=True)
    return jobs.run(job, parser, argv)


if __name__ == "__main__":
    raise SystemExit(main())

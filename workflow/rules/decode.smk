rule decode_chunk:
    """Stage the RetDef of a chunk, and decode its level-0 packets into evt files and indexes.

    Promise: the RetDef is a good one of this chunk, every index line points at its record, and what the decoder
    said is kept. The RetDef is no declared output, for it cannot be made again where its source is gone; nor is its
    source an input, so that a copy with new times does not make the mission outstanding. Uses wildcards `dl`,
    `chunk`.
    """
    output:
        paths.chunk(),
    log:
        paths.log("decode_chunk", paths.DL, paths.CHUNK),
    # What is further goes first: of many downlinks those that were begun are handed off, and not all at the end.
    priority: 1
    conda:
        "../../envs/halfpipe.yaml"
    params:
        program=program("decode_chunk"),
    shell:
        "{params.program} --downlink {wildcards.dl} --chunk {wildcards.chunk} --log {log}"

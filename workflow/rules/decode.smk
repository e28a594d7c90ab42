rule decode_chunk:
    """Stage the RetDef of a chunk, and decode its level-0 packets into evt files and indexes.

    Promise: the RetDef is a good one of this chunk, every index line points at its record, and what the decoder
    printed is kept. The RetDef is not a declared output, because it cannot be made again where its source is gone. Nor
    is its source an input, so that a copy with new times does not make the mission outstanding. Uses wildcards `dl`,
    `chunk`.
    """
    input:
        of_downlink(lambda of, wildcards: []),
    output:
        paths.chunk(),
    log:
        paths.log("decode_chunk", paths.DL, paths.CHUNK),
    # Later steps go first: downlinks that were begun are handed off one by one, and not all at the end.
    priority: 1
    conda:
        "../../envs/halfpipe.yaml"
    params:
        program=program("decode_chunk"),
    shell:
        "{params.program} --downlink {wildcards.dl} --chunk {wildcards.chunk} --log {log}"

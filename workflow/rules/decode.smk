rule decode_chunk:
    """Stage the RetDef of a chunk, and decode its level-0 packets into evt files and indexes.

    Promise: the RetDef is a valid one of this chunk, every index line points at its record, and the output of the
    decoder is kept. The RetDef is not a declared output, because it cannot be made again if its source is gone. Its
    source is not an input, because a copy with new times would make the mission outstanding. Uses wildcards `dl`,
    `chunk`.
    """
    input:
        of_downlink(lambda of, wildcards: []),
    output:
        paths.chunk(),
    log:
        paths.log("decode_chunk", paths.DL, paths.CHUNK),
    # Later steps have priority, so that downlinks are handed off one by one and not all at the end.
    priority: 1
    conda:
        "../../envs/halfpipe.yaml"
    params:
        program=program("decode_chunk"),
    shell:
        "{params.program} --downlink {wildcards.dl} --chunk {wildcards.chunk} --log {log}"

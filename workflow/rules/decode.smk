rule stage_retdef:
    """Copy a RetDef unchanged from the search path and validate it.

    Promise: what is staged is a good RetDef of this chunk. Its source is no declared input, so that a
    copy with new times does not make the mission outstanding; update() keeps it where the source is
    gone. Uses wildcards `dl`, `chunk`.
    """
    output:
        update(paths.retdef()),
    log:
        paths.log("stage_retdef", paths.DL, paths.CHUNK),
    localrule: True
    conda:
        "../../envs/halfpipe.yaml"
    params:
        program=program("stage_retdef"),
    shell:
        "{params.program} --downlink {wildcards.dl} --chunk {wildcards.chunk} --log {log}"


rule decode_chunk:
    """Decode the level-0 packets of a chunk into evt files and indexes.

    Promise: every index line points at its record, and what the decoder said is kept. Uses wildcards
    `dl`, `chunk`.
    """
    input:
        paths.retdef(),
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

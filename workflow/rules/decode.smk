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
        script=as_is(script("stage_retdef", "--work", settings.work, "--search", *settings.retdef)),
    shell:
        "{params.script} --downlink {wildcards.dl} --chunk {wildcards.chunk} --log {log}"


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
    conda:
        "../../envs/halfpipe.yaml"
    params:
        script=as_is(script("decode_chunk", "--work", settings.work, *DECODER)),
    shell:
        "{params.script} --downlink {wildcards.dl} --chunk {wildcards.chunk} --log {log}"

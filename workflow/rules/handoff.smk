rule deliver_run:
    """Merge the chunk indexes of one run within a downlink, and stage its event files for Level-1.

    Promise: what the downlink brings of the run is known to all downlinks; what is staged is recorded
    first, and no event goes to Level-1 twice; a run that Level-1 would refuse is held. Uses wildcards `dl`, `run`.
    """
    input:
        lambda wildcards: [
            paths.chunk(wildcards.dl, chunk) for chunk in downlink(wildcards.dl).chunks_with(wildcards.run)
        ],
    output:
        paths.manifest(),
    log:
        paths.log("deliver_run", paths.DL, paths.RUN),
    priority: 2
    conda:
        "../../envs/halfpipe.yaml"
    threads: 2
    params:
        program=program("deliver_run"),
        chunks=lambda wildcards: downlink(wildcards.dl).chunks_with(wildcards.run),
        runs=lambda wildcards: downlink(wildcards.dl).runs,
    shell:
        "{params.program} --downlink {wildcards.dl} --run {wildcards.run} --chunks {params.chunks}"
        " --runs {params.runs} --threads {threads} --log {log}"


rule receipt:
    """Hand a downlink off: texts for Level-1, then the receipt that says what was delivered and why not.

    Promise: all runs of the downlink are staged or held, and the stage says so. Uses wildcard `dl`.
    """
    input:
        chunks=lambda wildcards: downlink(wildcards.dl).chunk_files,
        manifests=lambda wildcards: downlink(wildcards.dl).manifests,
    output:
        paths.receipt(),
    log:
        paths.log("receipt", paths.DL),
    priority: 3
    localrule: True
    conda:
        "../../envs/halfpipe.yaml"
    params:
        program=program("receipt"),
        chunks=lambda wildcards: downlink(wildcards.dl).chunks,
        runs=lambda wildcards: downlink(wildcards.dl).runs,
    shell:
        "{params.program} --downlink {wildcards.dl} --chunks {params.chunks} --runs {params.runs}"
        " --log {log}"

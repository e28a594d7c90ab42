rule deliver_run:
    """Merge what the decoded chunks of a downlink contain of one run, and stage its event files for Level-1.

    Promise: all downlinks know which data of the run this downlink contains; a delivery is recorded before its files
    are staged, and no event goes to Level-1 twice; nothing is staged of a run that Level-1 would reject. Uses
    wildcards `dl`, `run`.
    """
    input:
        of_downlink(
            lambda of, wildcards: [
                paths.chunk(wildcards.dl, chunk) for chunk in of.chunks_for(wildcards.run)
            ]
        ),
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
        chunks=lambda wildcards: downlink(wildcards.dl).chunks_for(wildcards.run),
        runs=lambda wildcards: downlink(wildcards.dl).runs,
    shell:
        "{params.program} --downlink {wildcards.dl} --run {wildcards.run} --chunks {params.chunks}"
        " --runs {params.runs} --threads {threads} --log {log}"


rule receipt:
    """Hand a downlink off: texts for Level-1, then the receipt with the deliveries and refusals.

    Promise: all runs of the downlink are staged or refused, and the stage has the texts. Uses wildcard `dl`.
    """
    input:
        of_downlink(lambda of, wildcards: [*of.chunk_files, *of.manifests]),
    output:
        paths.receipt(),
    log:
        paths.log("receipt", paths.DL),
    priority: 3
    conda:
        "../../envs/halfpipe.yaml"
    params:
        program=program("receipt"),
        chunks=lambda wildcards: downlink(wildcards.dl).chunks,
        runs=lambda wildcards: downlink(wildcards.dl).runs,
    shell:
        "{params.program} --downlink {wildcards.dl} --chunks {params.chunks} --runs {params.runs}"
        " --log {log}"

rule merge_index:
    """Merge the chunk indexes of one run within a downlink.

    Promise: the datagrams and events that the downlink brings of the run, in order and each once, are
    known to all other downlinks; Level-1 retires none of the downlink's runs before the hand-off. Uses
    wildcards `dl`, `run`.
    """
    input:
        lambda wildcards: downlink(wildcards).chunk_files_with(wildcards.run),
    output:
        paths.index(),
    log:
        paths.log("merge_index", paths.DL, paths.RUN),
    conda:
        "../../envs/halfpipe.yaml"
    resources:
        mem_mb=lambda wildcards, attempt: 2000 * attempt,
        runtime=lambda wildcards, attempt: 30 * attempt,
    params:
        script=script("merge_index"),
        where=WHERE,
        chunks=lambda wildcards: downlink(wildcards).chunks_with(wildcards.run),
        runs=lambda wildcards: downlink(wildcards).runs,
        decoder=DECODER,
    shell:
        "{params.script} {params.where} --downlink {wildcards.dl} --run {wildcards.run}"
        " --chunks {params.chunks} --runs {params.runs} {params.decoder} --log {log}"

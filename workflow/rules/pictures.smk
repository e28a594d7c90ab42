rule pictures:
    """Draw the runs of a downlink.

    Promise: nothing waits for pictures, and nothing is changed but them. They are made when somebody asks for them.
    Uses wildcard `dl`.
    """
    input:
        paths.receipt(),
    output:
        paths.drawn(),
        # Which runs a downlink has is not known beforehand, so the directory is what a report takes pictures from.
        report(
            directory(paths.pictures()),
            patterns=["run-{name}.svg"],
            caption="../report/picture.rst",
            category="Downlink {dl}",
            labels={"picture": "run {name}"},
        ),
    log:
        paths.log("pictures", paths.DL),
    localrule: True
    conda:
        "../../envs/halfpipe.yaml"
    params:
        program=program("pictures"),
    shell:
        "{params.program} --downlink {wildcards.dl} --log {log}"

rule misspelt:
    """Name the mistake in a target that looks like a downlink and is none.

    A failing job, so that good targets beside it go on. Uses wildcard `misspelt`.
    """
    input:
        is_misspelt,
    output:
        "dl={misspelt}",
    log:
        "logs/misspelt-{misspelt}.log",
    wildcard_constraints:
        misspelt=rf"(?!{DownlinkId.PATTERN}$)[^/]*",
    localrule: True
    conda:
        "../../envs/halfpipe.yaml"
    params:
        program=program("misspelt"),
    shell:
        "{params.program} --log {log:q} -- {wildcards.misspelt:q}"

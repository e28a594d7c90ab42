rule refused:
    """Fail with the reason why a target cannot be made.

    Promise: the other targets of the command go on
    (`test_hostile.py::test_misspelt_targets_are_named_and_not_interpreted`,
    `test_concurrency.py::test_a_second_head_of_a_downlink_is_refused`). Uses wildcard `target`: a downlink that
    another process has in progress or that a switch holds, or a misspelt word.
    """
    output:
        paths.refused(),  # never made
    log:
        paths.log("refused", "{target}"),
    wildcard_constraints:
        target="[^/]+",
    retries: 0
    localrule: True
    conda:
        "../../envs/halfpipe.yaml"
    params:
        why=lambda wildcards: str(refusals.get(wildcards.target, "not refused any more")),
    shell:
        program("refused") + " --why {params.why:q} --log {log}"


rule misspelt:
    """Report the mistake in a target that looks like a downlink. Uses wildcard `misspelt`."""
    input:
        refuse_misspelt,
    output:
        "{misspelt}",
    wildcard_constraints:
        misspelt=rf"(?:(?:dl|submit|pictures)=(?!{DownlinkId.PATTERN}$)|(?=[0-9]))[^/]*",
    localrule: True

rule ledger:
    """Load a downlink into the ledger, and update the state of its runs.

    Promise: Level-1 finds a row of each run of the downlink. The hand-off does not wait for this, because a database
    may be down; the submission does. Uses wildcard `dl`.
    """
    input:
        paths.receipt(),
    output:
        paths.loaded(),
    log:
        paths.log("ledger", paths.DL),
    localrule: True
    conda:
        "../../envs/halfpipe.yaml"
    params:
        program=program("ledger"),
    shell:
        "{params.program} --downlink {wildcards.dl} --log {log}"

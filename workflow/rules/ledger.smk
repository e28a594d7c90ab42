rule ledger:
    """Enter into the ledger what a downlink brought, and how its runs stand now.

    Promise: Level-1 finds a row of each run of the downlink. The hand-off does not wait for this, for a
    database may be down; the submission does. Uses wildcard `dl`.
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

rule submit:
    """Submit a downlink to Level-1, or write the command to a file if the config has none.

    Promise: the stream of a downlink is created once, even if processes die or the command is repeated; each attempt
    is recorded before and after. `input` lists what Level-1 needs. Uses wildcard `dl`.
    """
    input:
        receipt=paths.receipt(),
        # Level-1 fails on a run that the ledger does not have.
        ledger=paths.loaded() if settings.ledger.url is not None else [],
    output:
        paths.submitted(),
    log:
        paths.log("submit", paths.DL),
    # A command that failed is repeated only if a person repeats it, and not by a profile.
    retries: 0
    localrule: True
    conda:
        "../../envs/halfpipe.yaml"
    params:
        program=program("submit"),
    shell:
        "{params.program} --downlink {wildcards.dl} --log {log}"

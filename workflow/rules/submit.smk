rule submit:
    """Submit a downlink to Level-1, or write the command line down where the config has no command.

    Promise: the stream of a downlink is created once, whatever dies and whoever asks again; what was done
    is recorded before and after. What Level-1 needs to be there before stands in `input`. Uses wildcard
    `dl`.
    """
    input:
        receipt=paths.receipt(),
        # Level-1 fails on a run that the ledger does not have.
        ledger=paths.loaded() if settings.ledger.url is not None else [],
    output:
        paths.submitted(),
    log:
        paths.log("submit", paths.DL),
    # A command that failed is given again by whoever gives this one again, and not by a profile.
    retries: 0
    localrule: True
    conda:
        "../../envs/halfpipe.yaml"
    params:
        program=program("submit"),
    shell:
        "{params.program} --downlink {wildcards.dl} --log {log}"

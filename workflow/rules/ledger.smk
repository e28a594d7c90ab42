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
        script=as_is(script("ledger", "load", "--work", settings.work)),
        url=as_is(option("--url", settings.ledger_url)),
        password=as_is(option("--password-file", settings.ledger_password)),
        min_epus=option("--min-epus", settings.policy.min_epus),
        moot=as_is(option("--moot", settings.moot)),
        moot_update=as_is(option("--moot-update", settings.moot_update)),
    shell:
        "{params.script} --downlink {wildcards.dl} {params.url} {params.password} {params.min_epus}"
        " {params.moot} {params.moot_update} --log {log}"

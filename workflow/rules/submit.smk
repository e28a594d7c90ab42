rule submit:
    """Submit a downlink to Level-1, or record the command for a person to run if the config has none.

    Promise: the stream of a downlink is created once, even after kills or if the target is given again. Each attempt is
    recorded before and after it (`test_submit.py::test_a_submission_that_is_killed_at_any_moment_happens_once`,
    `test_submit.py::test_a_downlink_is_submitted_once_also_with_forced_targets`). The inputs are those that Level-1
    needs first. Uses wildcard `dl`.
    """
    input:
        receipt=paths.receipt(),
        # Level-1 fails on a run that the ledger does not have.
        ledger=paths.loaded() if settings.ledger.url is not None else [],
    output:
        paths.submitted(),
    log:
        paths.log("submit", paths.DL),
    # Only a person repeats a failed command, never a profile.
    retries: 0
    localrule: True
    conda:
        "../../envs/halfpipe.yaml"
    shell:
        program("submit") + " --downlink {wildcards.dl} --log {log}"

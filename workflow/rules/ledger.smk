rule ledger:
    """Enter the datagrams of a downlink into the ledger, and the status of its runs.

    Promise: Level-1 finds a row for each run of the downlink
    (`test_submit.py::test_a_submission_loads_first_and_again_after_a_new_hand_off`). The submission waits for
    this, and the hand-off does not, because a database may be down
    (`test_submit.py::test_a_ledger_that_is_down_delays_the_submission_only`). Uses wildcard `dl`.
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
    shell:
        program("ledger") + " --downlink {wildcards.dl} --log {log}"

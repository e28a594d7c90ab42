rule deliver_run:
    """Merge what the decoded chunks of a downlink contain of one run, and stage its event files for Level-1.

    Promise: the events of the run in this downlink are known to all downlinks. A delivery is recorded before it is
    staged, and no event is delivered twice (`test_faults.py::test_after_harm_the_same_command_leaves_the_same_tree`,
    `test_faults.py::test_another_downlink_continues_after_an_interrupted_merge`). A run that Level-1 would refuse is
    not staged (`test_bad_input.py::test_a_run_that_level_1_would_refuse_is_not_staged`). Uses wildcards `dl`, `run`.
    """
    input:
        of_downlink(
            lambda of, wildcards: [
                paths.chunk(wildcards.dl, chunk) for chunk in chunks_for(of, wildcards.run)
            ]
        ),
    output:
        paths.manifest(),
    log:
        paths.log("deliver_run", paths.DL, paths.RUN),
    # Memory and time come from `set-resources` in profiles/*/.
    priority: 2
    conda:
        "../../envs/halfpipe.yaml"
    threads: 2
    params:
        plan=lambda wildcards: downlink(wildcards.dl),
    shell:
        program("deliver_run") + " --downlink {wildcards.dl} --run {wildcards.run} --chunks {input}"
        " --runs {params.plan.runs} --threads {threads} --log {log}"


rule receipt:
    """Hand a downlink off: write the texts for Level-1, then the receipt with what was delivered and what was not.

    Promise: all runs of the downlink are staged or refused, and the texts list them
    (`test_end_to_end.py::test_delivered_is_what_was_simulated_but_for_waiting_events`,
    `test_dag.py::test_a_lost_receipt_alone_is_outstanding_and_comes_back_the_same`). Uses wildcard `dl`.
    """
    input:
        of_downlink(lambda of, wildcards: [*of.chunk_files, *of.manifests]),
    output:
        paths.receipt(),
    log:
        paths.log("receipt", paths.DL),
    priority: 3
    conda:
        "../../envs/halfpipe.yaml"
    params:
        plan=lambda wildcards: downlink(wildcards.dl),
    shell:
        program("receipt")
        + " --downlink {wildcards.dl} --chunks {params.plan.chunks} --runs {params.plan.runs}"
        " --log {log}"

rule pictures:
    """Draw the runs of a downlink.

    Promise: pictures are drawn on request. Nothing waits for them, and drawing changes nothing else
    (`test_dag.py::test_pictures_are_made_after_the_receipt_and_leave_it_alone`). Uses wildcard `dl`.
    """
    input:
        paths.receipt(),
    output:
        paths.drawn(),
        # The runs of a downlink are not known in advance, so a report takes all pictures in the directory.
        report(
            directory(paths.pictures()),
            patterns=["run-{name}.svg"],
            caption="../report/picture.rst",
            category="Downlink {dl}",
            labels={"picture": "run {name}"},
        ),
    log:
        paths.log("pictures", paths.DL),
    localrule: True
    conda:
        "../../envs/halfpipe.yaml"
    shell:
        program("pictures") + " --downlink {wildcards.dl} --log {log}"

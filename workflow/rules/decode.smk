rule decode_chunk:
    """Stage the RetDef of a chunk, and decode its level-0 packets into evt files and indexes.

    Promise: the RetDef is valid and for this chunk, every index line points at its record, and the output of the
    decoder is kept (`test_mutations.py::test_products`,
    `test_bad_input.py::test_chunks_whose_decoder_fails_are_repeated_alone`). The RetDef is not a declared output,
    because it cannot be made again if its source is gone. Nor is its source an input, so that a copy with new
    times makes nothing outstanding (`test_dag.py::test_finished_work_stays_finished`). Uses wildcards `dl`, `chunk`.
    """
    output:
        paths.chunk(),
    log:
        paths.log("decode_chunk", paths.DL, paths.CHUNK),
    # Memory and time come from `set-resources` in profiles/*/. Later steps have priority, so that downlinks
    # are handed off one by one and not all at the end.
    priority: 1
    conda:
        "../../envs/halfpipe.yaml"
    shell:
        program("decode_chunk") + " --downlink {wildcards.dl} --chunk {wildcards.chunk} --log {log}"

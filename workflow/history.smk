"""History: batches of neighboring downlinks. `halfpipe process` starts this workflow and reports its progress.

snakemake history --snakefile workflow/history.smk --profile s3df --directory WORK --config batches=FILE
"""

import json
import os
import shlex
import sys
from pathlib import Path

from snakemake.utils import min_version

from halfpipe import paths
from halfpipe.process.rule_program import GROUP_MAY_WRITE
from halfpipe.settings import ROOT

min_version("9.27")

os.umask(GROUP_MAY_WRITE)
file = Path(config["batches"])
name, given = file.parent.name, json.loads(file.read_text())


rule history:
    """Process all batches."""
    default_target: True
    input:
        [paths.batch(name, f"{number:04d}") for number in range(len(given["batches"]))],
    localrule: True


rule batch:
    """Process neighboring downlinks one after the other, in the order of their ids.

    Promise: a downlink that fails does not stop the others, and a killed batch repeats no finished work. A batch fails
    only if more memory may help (`test_process.py::test_a_downlink_fails_alone_and_a_killed_one_gets_more_memory`).
    Uses wildcards `name`, `number`.
    """
    output:
        touch(paths.batch()),
    log:
        paths.batch_log(),
    conda:
        "../envs/halfpipe.yaml"
    threads: 4
    params:
        program=lambda wildcards: shlex.join([sys.executable, str(ROOT / "scripts" / "batch.py")]),
        settings=lambda wildcards: given["settings"],
        batches=lambda wildcards: str(file),
    shell:
        "{params.program} --settings {params.settings:q} --batches {params.batches:q}"
        " --number {wildcards.number} --cores {threads} --log {log}"

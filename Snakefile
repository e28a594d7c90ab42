"""HalfPipe: from a downlink of the Fermi Large Area Telescope to per-run event files for Level-1.

snakemake --profile s3df dl=230401001       process a downlink
snakemake --profile s3df --config dl=2023-04-01      process those of a day
snakemake -n dl=230401001                   show what is outstanding
"""

from snakemake.utils import min_version

min_version("9.27")


include: "workflow/common.smk"
include: "workflow/head.smk"


workdir: plan.work


refuse_elsewhere()
refuse_harmful_options()


report: "workflow/report/workflow.rst"


wildcard_constraints:
    dl=DownlinkId.PATTERN,
    chunk=ChunkId.PATTERN,
    run=RunId.PATTERN,


onstart:
    start_no_timers()
    if is_head():
        refuse_elsewhere()
        refuse_without_policy()
        end_at_sigterm()
        begin_working_directory()
        withdraw_receipts()


onsuccess:
    say_end()


onerror:
    say_failure()


include: "workflow/rules/refused.smk"
include: "workflow/rules/decode.smk"
include: "workflow/rules/handoff.smk"
include: "workflow/rules/submit.smk"
include: "workflow/rules/pictures.smk"


if settings.ledger.url is not None:

    include: "workflow/rules/ledger.smk"


# Not in an included file, because Snakemake forgets a default target that is set in one.
rule outstanding:
    """Process the downlinks in the config; if it has none, every outstanding one on the RetDef search path."""
    default_target: True
    input:
        requested,
    localrule: True

"""HalfPipe: from a downlink of the Fermi Large Area Telescope to per-run event files for Level-1.

snakemake --profile s3df dl=230401001       process a downlink
snakemake -n dl=230401001                   show what is outstanding
"""

from snakemake.utils import min_version

min_version("9.27")


configfile: f"{workflow.basedir}/config/config.yaml"


include: "workflow/common.smk"


workdir: settings.work


wildcard_constraints:
    dl=DownlinkId.PATTERN,
    chunk=ChunkId.PATTERN,
    run=RunId.PATTERN,


onstart:
    if is_head():
        refuse_held()
        withdraw_receipts()
        invocation.begin()


onsuccess:
    say_throughput()


onerror:
    say_throughput()


include: "workflow/rules/misspelt.smk"
include: "workflow/rules/decode.smk"
include: "workflow/rules/handoff.smk"
include: "workflow/rules/submit.smk"


if settings.ledger_url is not None:

    include: "workflow/rules/ledger.smk"


# Here and not in an included file: Snakemake forgets the default target of an include.
rule outstanding:
    """Process the config's downlinks, or else every outstanding one on the RetDef search path."""
    default_target: True
    input:
        requested,
    localrule: True

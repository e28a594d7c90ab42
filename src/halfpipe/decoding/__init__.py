"""From level-0 to event files and indexes: the decoder, what it says, and what it must have made.

The contract (ground-chain §4): ``<command> -r RETDEF.xml -o OUTDIR [-k LATC]`` writes
``%08x-%08x-%04d-%05d.{evt,idx}`` (ground id, run, APID, chunk) into OUTDIR, says on its output which
runs it processes and which exceptions it met, and ends with 0 also after these.
"""

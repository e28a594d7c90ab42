"""Causes: why a downlink, or the site, is not good. Every code is in the registry.

`status/account.py` collects the causes of a downlink, `status/site_causes.py` those of the site; docs/architecture.md
lists the modules that find them. Code that refuses work because of a cause raises the error from `Cause.refused`.
"""

from halfpipe.causes.cause import Cause, Verdict
from halfpipe.causes.registry import CODES, PHASES, Code, Phase

__all__ = ["CODES", "PHASES", "Cause", "Code", "Phase", "Verdict"]

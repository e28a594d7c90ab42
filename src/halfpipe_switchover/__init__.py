"""What the switch-over from the legacy needs, and nobody needs a year later: take-over, comparison, and its ledger.

It imports `halfpipe`, which does not know of it. The command finds its verbs by the entry points of pyproject.toml.
"""

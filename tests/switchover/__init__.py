"""The switch-over: take-over, comparison with the legacy, and adoption of its ledger; goes with the package."""

"""What operators ask: what is missing, what was delivered of a run, what was delivered at all."""

"""Programs of others that this package starts: their commands, how they are run, and what they print."""

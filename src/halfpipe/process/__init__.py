"""The process that runs: its environment, its memory, how far it is and what it took."""

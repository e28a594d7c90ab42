"""The process that runs: its environment, its memory, how far it is, what it took; and what is told to others once."""

"""The running process, the programs that it starts, and why they fail."""

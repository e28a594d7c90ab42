"""Tests on a Slurm: a private one of a single node, or one that is already there."""

"""The merge rule: which events of a run go to Level-1, when, and in which file."""

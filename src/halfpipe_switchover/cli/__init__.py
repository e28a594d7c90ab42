"""The verbs of the switch-over: a module for each."""

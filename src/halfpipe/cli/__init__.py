"""The command `halfpipe`: a module for each verb."""

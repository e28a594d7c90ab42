"""The hand-off to Online: a run that is there from start to stop becomes one file, once."""

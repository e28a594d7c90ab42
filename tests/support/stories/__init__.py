"""Stories: what happens to a site in random order, with checks after each step and books of the story's own.

`python -m tests.support.stories SEED…` tells some; a failing one is printed with the command that tells it again.
"""

"""`python -m halfpipe`: the same as the command `halfpipe`."""

from halfpipe.cli.main import command

command(prog_name="halfpipe")

"""`python -m halfpipe`: the same as the command `halfpipe`."""

from halfpipe.commands.main import command

command(prog_name="halfpipe")

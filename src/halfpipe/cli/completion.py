"""`halfpipe completion`."""

import click
from click.shell_completion import get_completion_class

from halfpipe.cli.verbs import Verb


@click.command(
    "completion",
    cls=Verb,
    of_site=False,
    examples=[
        ('eval "$(halfpipe completion bash)"', "in ~/.bashrc"),
        ('eval "$(halfpipe completion zsh)"', "in ~/.zshrc, after compinit"),
        ("halfpipe completion fish | source", "in ~/.config/fish/config.fish"),
    ],
    statuses={0: "good"},
)
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]), help="The shell that is to complete.")
@click.pass_context
def command(ctx: click.Context, shell: str) -> None:
    """Print what makes a shell complete verbs, options, downlinks and runs.

    Downlinks and runs are those of the site that the command line or SNAKEMAKE_PROFILE names. bash has to be of
    version 4.4 or newer.
    """
    root = ctx.find_root()
    completion = get_completion_class(shell)
    assert completion is not None
    click.echo(completion(root.command, {}, "halfpipe", "_HALFPIPE_COMPLETE").source())

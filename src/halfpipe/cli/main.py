"""The command `halfpipe`: its verbs by subject, and its errors."""

import importlib
import sys
import traceback
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import click

from halfpipe.cli import printed
from halfpipe.cli.verbs import site_options
from halfpipe.errors import ConfigError, HalfPipeError
from halfpipe.process.failure_record import Failure
from halfpipe.process.rule_program import prepared
from halfpipe.version import __version__

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

VERBS: Mapping[str, Sequence[str]] = {
    "Look": [
        "status",
        "show",
        "explain",
        "find",
        "events",
        "diff",
        "board",
    ],
    "Act on downlinks and runs": [
        "process",
        "submit",
        "online",
        "hold",
        "accept",
        "ack",
        "cleanup",
    ],
    "Run the site": ["doctor", "unattended", "ledger", "config"],
}
WIDEST = 100  # columns of a help text, because longer lines are hard to read


def verbs_of_others() -> Mapping[str, "EntryPoint"]:
    """Return the verbs of other installed packages: the entry points of the group ``halfpipe.verbs``, by name."""
    from importlib.metadata import entry_points  # noqa: PLC0415 - it reads all packages, and most verbs do not need it

    return {each.name: each for each in sorted(entry_points(group="halfpipe.verbs"))}


class Command(click.Group):
    """The group of all verbs; a verb's module is loaded when it is needed."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - as click has it
        """Return all verbs."""
        return [name for names in self._by_subject().values() for name in names]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Load a verb."""
        command: click.Command
        if any(cmd_name in names for names in VERBS.values()):
            command = importlib.import_module(f"halfpipe.cli.{cmd_name}").command
        elif other := verbs_of_others().get(cmd_name):
            command = other.load()
        else:
            raise click.exceptions.NoSuchCommand(cmd_name, possibilities=self.list_commands(ctx), ctx=ctx)
        return command

    def _by_subject(self) -> Mapping[str, Sequence[str]]:
        others = list(verbs_of_others())
        return {**VERBS, "From other packages": others} if others else VERBS

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the verbs by subject, each with the first sentence of its help."""
        for subject, names in self._by_subject().items():
            verbs = [verb for name in names if (verb := self.get_command(ctx, name))]
            with formatter.section(subject):
                formatter.write_dl([(verb.name or "", verb.get_short_help_str(WIDEST)) for verb in verbs])

    def invoke(self, ctx: click.Context) -> Any:
        """Run a verb, print its errors, and end with its exit status."""
        try:
            with prepared():
                status = super().invoke(ctx)
                sys.stdout.flush()
        except HalfPipeError as error:
            printed.errors([error])
            status = 2 if isinstance(error, ConfigError) else 1
        # click prints its own errors. A broken pipe, whose reader has ended, is one of them.
        except (BrokenPipeError, click.ClickException, click.exceptions.Exit, click.Abort):
            raise
        except Exception as error:
            if not isinstance(error, OSError):
                traceback.print_exc()
            why = Failure.of(error)
            printed.errors([HalfPipeError(why.text, why.remedy)])
            status = 1
        ctx.exit(status or 0)


@click.group(
    "halfpipe",
    cls=Command,
    params=site_options(hidden=False),
    context_settings={"max_content_width": WIDEST, "help_option_names": ["-h", "--help"]},
)
@click.version_option(__version__, message="%(prog)s %(version)s")
def command() -> None:
    """HalfPipe: from a downlink of the Fermi Large Area Telescope to event files for Level-1.

    snakemake processes downlinks; the verbs below do everything else. Help for one verb: `halfpipe VERB --help`.

    \b
      export SNAKEMAKE_PROFILE=s3df   once: name the site, for snakemake too
      snakemake dl=230401001          process a downlink
      halfpipe status                 see the state of each downlink
      halfpipe show r0702010205       see what was delivered for a run
    """  # noqa: D301 - click reads the character

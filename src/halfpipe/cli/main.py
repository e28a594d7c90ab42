"""The command itself: its verbs by subject, and how it ends."""

import importlib
import logging
import os
import signal
import sys
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

import click

import halfpipe
from halfpipe.cli import printed
from halfpipe.cli.verbs import Group
from halfpipe.errors import ConfigError, HalfPipeError
from halfpipe.files.advice import advice
from halfpipe.process.rule_program import GROUP_MAY_WRITE

# Each verb with what its help says first, so that this help needs no other module.
VERBS: Mapping[str, Mapping[str, str]] = {
    "Look": {
        "status": "Show the state of each downlink, and what needs action.",
        "board": "Write pages that say how the site and each downlink stand.",
        "show": "Show what is known of runs or downlinks.",
        "delivered": "List what was delivered, a line for each downlink and run.",
        "waiting": "List the runs that are not complete, and what each waits for.",
        "compare": "Compare what was delivered with what another system delivered, event by event and text by text.",
        "inventory": "Count what a tree of the legacy holds, and list what has to be copied.",
        "explain": "Explain why events of a run or a downlink are not delivered, and what to do.",
        "find": "Find the downlinks, runs and files that have a time, or a run.",
        "picture": "Draw a run or a downlink.",
        "diff": "Say what changed between two hand-offs of a downlink.",
        "throughput": "Say what the jobs of each rule took, and how fast they were.",
        "evt": "Show or check event files.",
        "index": "Print the merged index of a run within a downlink.",
        "config": "Print the configuration as it is in effect, or describe its keys.",
    },
    "Act": {
        "submit": "Submit a downlink to Level-1, roll it back, or settle what is open.",
        "online": "Hand whole runs to Online.",
        "retdefs": "Make the RetDefs of a downlink from level-0, or compare the existing ones with it.",
        "repipe": "Process a run once more on its own, from all that lies in the level-0 archive.",
        "halt": "Hold a kind of work, or list what is held.",
        "resume": "Let work go on that was held.",
        "force": "Give up runs that will never be complete, or list them.",
        "takeover": "Make known here what the legacy has delivered, so that HalfPipe goes on with its runs.",
        "release": "Let other downlinks deliver what a downlink no longer delivers of a run.",
        "cleanup": "Remove what is large and can be made again, and what killed jobs left.",
        "ledger": "Load, compare and mend the ledger of acquisitions.",
        "process": "Process many downlinks in batches, oldest first, up to their hand-off.",
        "unattended": "Process every outstanding downlink, for cron or a systemd timer.",
    },
    "Shell": {
        "completion": "Print what makes a shell complete verbs, options, downlinks and runs.",
    },
}
NOBODY_READS = 128 + signal.SIGPIPE

log = logging.getLogger("halfpipe")


class Command(Group):
    """The group of all verbs; a verb's module is loaded when the verb is."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - as click has it
        """Return all verbs."""
        return [name for verbs in VERBS.values() for name in verbs]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Load a verb."""
        verbs = self.list_commands(ctx)
        if cmd_name not in verbs:
            raise click.exceptions.NoSuchCommand(cmd_name, possibilities=verbs, ctx=ctx)
        command: click.Command = importlib.import_module(f"halfpipe.cli.{cmd_name}").command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        """List the verbs by subject."""
        for subject, verbs in VERBS.items():
            with formatter.section(subject):
                formatter.write_dl([(name, said) for name, said in verbs.items()])

    def invoke(self, ctx: click.Context) -> Any:
        """Run a verb; its errors are told in words and become its exit status, which is what it returns."""
        try:
            with _prepared():
                status = super().invoke(ctx)
                sys.stdout.flush()
        except BrokenPipeError:
            nobody_reads()
            status = NOBODY_READS
        except HalfPipeError as error:
            _tell(str(error))
            status = 2 if isinstance(error, ConfigError) else 1
        except OSError as error:
            place = f"{error.filename}: " if error.filename else ""
            _tell(f"{place}{error.strerror or error}. {advice(error)}")
            status = 1
        except (click.ClickException, click.exceptions.Exit, click.Abort):
            raise
        except Exception:
            traceback.print_exc()
            _tell("this is a defect of the program, please report it with the lines above")
            status = 1
        ctx.exit(status or 0)


def _tell(message: str) -> None:
    sys.stdout.flush()
    click.echo(printed.tinted("error: ", fg="red", bold=True) + message, err=True)


def nobody_reads() -> None:
    """Have nothing more printed: who read it, such as head, has seen enough."""
    with suppress(OSError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


@contextmanager
def _prepared() -> Iterator[None]:
    """Let warnings of the package be told, the group write what is made, and signals end it in order."""
    handler = logging.StreamHandler()
    log.setLevel(logging.INFO)
    log.propagate = False
    log.addHandler(handler)
    umask = os.umask(GROUP_MAY_WRITE)
    ended_by = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    for number, before in ended_by.items():
        if before is not signal.SIG_IGN:
            signal.signal(number, _end)
    try:
        yield
    finally:
        for number, before in ended_by.items():
            signal.signal(number, before)
        os.umask(umask)
        log.removeHandler(handler)


def _end(number: int, _frame: object) -> None:
    """Leave by the way of all errors, so that leases are given back and programs that we started are ended."""
    raise SystemExit(128 + number)


@click.group(
    "halfpipe",
    cls=Command,
    examples=[
        ("export SNAKEMAKE_PROFILE=s3df", "once: which site is meant, for snakemake too"),
        ("snakemake dl=230401001", "process a downlink"),
        ("halfpipe status", "see how far each downlink is"),
        ("halfpipe show r0702010205", "see what was delivered of a run"),
    ],
)
@click.version_option(halfpipe.__version__, message="%(prog)s %(version)s")
def command() -> None:
    """HalfPipe: from a downlink of the Fermi Large Area Telescope to event files for Level-1.

    snakemake processes the downlinks. Everything else that people ask and do is a verb here, as in
    `halfpipe status`; `halfpipe VERB --help` explains it.
    """

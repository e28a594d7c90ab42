"""`halfpipe adopt`."""

from typing import TYPE_CHECKING

import click

from halfpipe.cli import printed
from halfpipe.cli.verbs import Site, Verb, as_json
from halfpipe.words import count

if TYPE_CHECKING:
    from halfpipe_switchover.adopt import Adoption


@click.command(
    "adopt",
    cls=Verb,
    examples=[
        ("halfpipe adopt", "show how the legacy's tables would be adopted"),
        ("halfpipe adopt --do", "adopt them"),
        ("halfpipe adopt --undo --do", "undo it"),
    ],
    statuses={
        0: "the legacy's tables are adopted, or can be",
        1: "a column cannot be adopted; or the ledger cannot be reached or used",
    },
)
@click.option("--do", is_flag=True, help="Do it; without this option, only look.")
@click.option("--undo", is_flag=True, help="Undo it. HalfPipe's tables are dropped.")
@as_json
def command(site: Site, do: bool, undo: bool, as_json: bool) -> int:
    """Replace the legacy's tables in the ledger by HalfPipe's, with the same rows.

    The legacy's tables are kept under other names. Details: docs/switch-over/ledger.md.
    """
    # Importing SQLAlchemy takes 0.2 s, and the help does not need it.
    from halfpipe.ledger.database import Ledger  # noqa: PLC0415
    from halfpipe_switchover.adopt import adopt  # noqa: PLC0415

    ledger = Ledger.of(site.settings)
    found = adopt(ledger, do=do, back=undo)
    if as_json:
        printed.as_json(ledger=ledger.name, **vars(found))
    else:
        _print(found)
    return 1 if found.problems else 0


def _print(found: "Adoption") -> None:
    if found.done:
        done = "restored" if found.back else "adopted"
        rows = count(sum(each.rows for each in found.tables), "row")
        click.echo(f"{done}: {count(len(found.tables), 'table')} of the legacy with {rows}")
        if not found.back:
            compared = count(found.compared, "run")
            click.echo(f"Level-1's query has the same answers as before ({compared} compared)")
            click.echo("load HalfPipe's downlinks: halfpipe ledger rebuild")
    elif found.problems:
        click.echo("\n".join(["these columns cannot be adopted:", *found.problems]))
    else:
        printed.table([vars(each) | {"readers": ", ".join(each.readers)} for each in found.tables])
        click.echo(f"to do it: halfpipe adopt {'--undo ' if found.back else ''}--do")

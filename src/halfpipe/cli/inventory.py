"""`halfpipe inventory`."""

from pathlib import Path

import click

from halfpipe.cli import printed
from halfpipe.cli.printed import Column
from halfpipe.cli.verbs import Verb, as_json
from halfpipe.words import count

NAMED = 5  # names of each kind that the legacy does not make
KINDS = [
    Column("what"),
    Column("files", number=True),
    Column("MB", number=True),
    Column("from", drop=1),
    Column("to", drop=1),
    Column("becomes"),
]
SUMS = [Column("year"), Column("files", number=True), Column("MB", number=True)]
OWNERS = [Column("owner"), *SUMS[1:]]
DIRECTORY = click.Path(path_type=Path, file_okay=False)


@click.command(
    "inventory",
    cls=Verb,
    of_site=False,
    examples=[
        ("halfpipe inventory /u42/ISOC-flight/Downlinks", "what is there, by kind and year"),
        ("halfpipe inventory TREE --lists DIR", "lists for rsync and sha256sum, of what has to come"),
    ],
    statuses={0: "good", 1: "something cannot be read", 2: "the command line cannot be used"},
)
@click.argument("tree", type=DIRECTORY, metavar="TREE")
@click.option(
    "--lists", "home", type=DIRECTORY, metavar="DIR", help="Write the names of what has to come there."
)
@as_json
def command(tree: Path, home: Path | None, as_json: bool) -> int:
    """Count what a tree of the legacy holds, and list what has to be copied.

    TREE is the legacy's directory of downlinks, or one that holds it. Nothing is written into it, and no file is
    opened.
    """
    from halfpipe.tools.legacy_files import FATES, Kind, take_inventory, write_lists  # noqa: PLC0415 - pandas

    if not tree.is_dir():
        raise click.UsageError(f"{tree}: no such directory.")
    found = take_inventory(tree)
    listed = write_lists(found, home) if home else None
    kinds, years, owners = found.by("kind", "year"), found.by("year"), found.by("owner")
    if as_json:
        tables = {"kinds": kinds, "years": years, "owners": owners}
        printed.as_json(
            tree=tree,
            **{name: table.reset_index().to_dict("records") for name, table in tables.items()},
            odd=found.odd,
            unread=found.unread,
            listed=listed,
        )
        return 1 if found.unread else 0
    printed.table(
        KINDS,
        [
            [kind, of.files.sum(), of.bytes.sum() / 1e6, *of.loc[kind].index[[0, -1]], FATES[Kind(kind)]]
            for kind, of in kinds.groupby("kind")
        ],
    )
    for columns, sums in ((SUMS, years), (OWNERS, owners)):
        click.echo()
        printed.table(columns, [[name, of.files, of.bytes / 1e6] for name, of in sums.iterrows()])
    for what, names in sorted(found.odd.items()):
        more = f", {len(names) - NAMED:,} others" if len(names) > NAMED else ""
        click.echo(f"{what}: {', '.join(names[:NAMED])}{more}")
    for text in found.unread:
        click.echo(f"error: {text}", err=True)
    if home:
        click.echo(f"{count(listed or 0, 'name')} to copy are listed in {home}")
    return 1 if found.unread else 0

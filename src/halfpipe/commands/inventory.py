"""`halfpipe inventory`."""

import pwd
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import click

from halfpipe.commands import printed
from halfpipe.commands.printed import Column
from halfpipe.commands.verbs import Verb, as_json
from halfpipe.words import count

if TYPE_CHECKING:
    from halfpipe.inventory.tree import Inventory, Sum

KINDS = [
    Column("what"),
    Column("files", number=True),
    Column("MB", number=True),
    Column("from", drop=1),
    Column("to", drop=1),
    Column("becomes"),
]
YEARS = [
    Column("year"),
    Column("files", number=True),
    Column("MB", number=True),
    Column("comes_files", number=True),
    Column("comes_MB", number=True),
]
DIRECTORY = click.Path(path_type=Path, file_okay=False)


@click.command(
    "inventory",
    cls=Verb,
    of_site=False,
    examples=[
        ("halfpipe inventory /u42/ISOC-flight/Downlinks", "what is there, by kind and year"),
        ("halfpipe inventory TREE --plan DIR", "lists for rsync and checksums, of what has to come"),
        ("halfpipe inventory COPY --plan DIR --verify", "is the copy whole?"),
    ],
    statuses={
        0: "good",
        1: "something cannot be read, or the copy is not whole",
        2: "the command line cannot be used",
    },
)
@click.argument("tree", type=DIRECTORY, metavar="TREE")
@click.option("--plan", "home", type=DIRECTORY, metavar="DIR", help="Write the plan of a copy there.")
@click.option("--verify", is_flag=True, help="Compare TREE, which is a copy, with the plan in DIR.")
@as_json
def command(tree: Path, home: Path | None, verify: bool, as_json: bool) -> int:
    """Say what a tree of the legacy holds, plan its copy, or compare a copy with the plan.

    TREE is the legacy's directory of downlinks, or one that holds it. Nothing is written into it. Plan and comparison
    read every file that has to be copied; if they are interrupted, the same command goes on with them.
    """
    if not tree.is_dir():
        raise click.UsageError(f"{tree}: no such directory.")
    if verify and home is None:
        raise click.UsageError("--verify needs --plan DIR, the plan that the copy was made by.")
    if home is None:
        return _taken(tree, as_json)
    from halfpipe.inventory import copying  # noqa: PLC0415

    if not verify:
        planned = copying.plan(tree, home)
        if as_json:
            printed.as_json(plan=planned)
            return 1 if planned.unread else 0
        files, links = count(planned.files, "file"), count(planned.links, "link")
        click.echo(f"{files}, {links}, {planned.size / 1e6:,.0f} MB to copy, four years at a time:")
        click.echo(
            f"  ls {home}/*{copying.NAMES} | xargs -P 4 -I{{}} rsync -a --from0 --files-from={{}} {tree}/ COPY/"
        )
        click.echo(f"then: halfpipe inventory COPY --plan {home} --verify")
        if planned.unread:
            click.echo(
                f"error: {count(planned.unread, 'name')} cannot be read: {home / copying.UNREAD}", err=True
            )
        return 1 if planned.unread else 0
    found = copying.verify(home, tree)
    if as_json:
        printed.as_json(verified=found)
    else:
        click.echo(
            f"{count(found.good, 'file')} as planned, {found.missing:,} missing, {found.differs:,} differ"
        )
        if found.bad:
            click.echo(
                f"error: the copy is not whole; {copying.names_of_bad(home, tree)} has the names", err=True
            )
    return 1 if found.bad else 0


def _taken(tree: Path, as_json: bool) -> int:
    from halfpipe.inventory.tree import take_inventory  # noqa: PLC0415

    found = take_inventory(tree)
    owners = {_owner(uid): one for uid, one in found.owners.items()}
    if as_json:
        printed.as_json(
            tree=tree,
            downlinks=found.downlinks,
            runs=found.runs,
            years=found.years,
            owners=owners,
            links=found.links,
            odd=found.odd,
            unread=found.unread,
        )
    else:
        _tell(found, owners)
    return 1 if found.unread else 0


def _tell(found: "Inventory", owners: Mapping[str, "Sum"]) -> None:
    from halfpipe.inventory.tree import FATES, KEPT, LISTED  # noqa: PLC0415

    click.echo(
        f"{count(found.downlinks, 'downlink')}, {count(found.runs, 'run directory', 'run directories')}"
    )
    of_kind = {
        kind: sorted(year for year, kinds in found.years.items() if kind in kinds) for kind in found.kinds
    }
    printed.table(
        KINDS,
        [
            [kind, one.files, one.size / 1e6, of_kind[kind][0], of_kind[kind][-1], FATES[kind]]
            for kind, one in sorted(found.kinds.items())
        ],
    )
    click.echo()
    rows: list[list[printed.Cell]] = []
    for year, kinds in sorted(found.years.items()):
        kept = [one for kind, one in kinds.items() if FATES[kind] in KEPT]
        sums = [
            (sum(s.files for s in some), sum(s.size for s in some) / 1e6) for some in (kinds.values(), kept)
        ]
        rows.append([year, *sums[0], *sums[1]])
    printed.table(YEARS, rows)
    for name, one in sorted(owners.items()):
        click.echo(f"owner {name}: {count(one.files, 'file')}, {one.size / 1e6:,.1f} MB")
    for where, links in sorted(found.links.items()):
        click.echo(f"links that lead {where}: {links:,}")
    for what, names in sorted(found.odd.items()):
        more = " and perhaps more" if len(names) == LISTED else ""
        click.echo(
            f"{what}: {', '.join(names[:5])}{f', {len(names) - 5} others' if len(names) > 5 else ''}{more}"
        )
    for said in found.unread:
        click.echo(f"error: {said}", err=True)


def _owner(uid: int) -> str:
    with suppress(KeyError):
        return pwd.getpwuid(uid).pw_name
    return str(uid)

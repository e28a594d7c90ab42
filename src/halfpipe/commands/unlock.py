"""`halfpipe unlock`."""

import click

from halfpipe.commands import printed
from halfpipe.commands.printed import Column
from halfpipe.commands.verbs import Known, Site, Verb, as_json
from halfpipe.storage import locks
from halfpipe.words import count

COLUMNS = [Column("lock"), Column("state"), Column("holder")]
LOCK = Known("lock", str, lambda work: [lock.name for lock in locks.found(work)])


@click.command(
    "unlock",
    cls=Verb,
    examples=[
        ("halfpipe unlock", "list all locks"),
        ("halfpipe unlock downlink-230401001", "remove one"),
    ],
    statuses={0: "good", 1: "there is no such lock, or its holder lives on this host"},
)
@click.argument(
    "names", nargs=-1, type=LOCK, metavar="[NAME]...", help="As listed, as downlink-230401001; none: list."
)
@as_json
def command(site: Site, names: tuple[str, ...], as_json: bool) -> None:
    """List locks, or remove some whose holders have died.

    You need this only for a process that died on another host: on the same host the next command takes a dead
    holder's lock over, and so it does for a Slurm job that Slurm says is gone. Only a person can know whether a
    process on another host lives. Look there first: if it lives, two processes may do the same work at once.
    """
    removed = [{"name": name, "holder": locks.remove(site.work, name)} for name in names]
    found = [] if names else locks.found(site.work)
    if as_json:
        printed.as_json(
            work=site.work,
            removed=removed,
            locks=[{"name": lock.name, "state": _state(lock), "holder": lock.holder} for lock in found],
        )
        return
    for lock in removed:
        click.echo(f"removed {lock['name']}, held by {lock['holder']}")
    printed.table(
        COLUMNS, [[lock.name, _state(lock), str(lock.holder or "nobody says who")] for lock in found]
    )
    if not names:
        click.echo(count(len(found), "lock"))


def _state(lock: locks.Found) -> str:
    """Say whether the lock stops anybody, and what becomes of it."""
    if lock.dead:
        return "dead, will be taken over"
    if lock.holder is not None and not lock.holder.is_here:
        return "held from another host"
    return "held"

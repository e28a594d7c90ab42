"""Words that a shell completes: names of files and directories, codes, and what was decided."""

import os
from collections.abc import Callable, Iterable, Iterator
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

import click
from click.shell_completion import CompletionItem

from halfpipe.config import PROFILE_FILES, snakemake_profiles
from halfpipe.errors import HalfPipeError
from halfpipe.files.reading import names_in

if TYPE_CHECKING:
    from halfpipe.cli.verbs import Site

Words = Callable[["Site", str], Iterable[str]]  # of a site, and what was typed
Completer = Callable[[click.Context, click.Parameter, str], list[CompletionItem]]


def completes(*sources: Words) -> Completer:
    """Return a completer for arguments with words of these sources; a site that cannot be read has none."""

    def complete(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:  # noqa: ARG001
        from halfpipe.cli.verbs import Site  # noqa: PLC0415 - that module imports this one

        site = ctx.find_root().ensure_object(Site)
        try:
            words = chain.from_iterable(source(site, incomplete) for source in sources)
            return [CompletionItem(word) for word in words if word.startswith(incomplete)]
        except (HalfPipeError, OSError):
            return []

    return complete


def downlinks(site: "Site", typed: str) -> Iterable[str]:
    """Return the downlinks of the working directory."""
    from halfpipe.state.downlinks_of_run import every_downlink  # noqa: PLC0415 - only when a shell asks

    return every_downlink(site.work, typed)


def runs(site: "Site", typed: str) -> Iterable[str]:
    """Return the runs of the working directory; after an ``r``, as Level-1 names them."""
    from halfpipe.state.downlinks_of_run import every_run  # noqa: PLC0415 - only when a shell asks

    if typed.startswith("r"):
        return (run.l1 for run in every_run(site.work))
    return every_run(site.work, typed)


def codes(site: "Site", typed: str) -> Iterable[str]:  # noqa: ARG001
    """Return the codes of problems."""
    from halfpipe.causes.registry import CODES  # noqa: PLC0415 - only when a shell asks

    return CODES


def decided(site: "Site", typed: str) -> Iterable[str]:  # noqa: ARG001
    """Return the subjects of decisions."""
    from halfpipe.decisions import Decisions, What  # noqa: PLC0415 - only when a shell asks

    return dict.fromkeys(one.subject for one in Decisions.read(site.work).of_kind(*What))


def profiles(site: "Site", typed: str) -> Iterator[str]:  # noqa: ARG001
    """Yield the profiles in the places where Snakemake looks for their names."""
    for place in (Path(), snakemake_profiles()):
        for name in sorted(names_in(place)):
            if any(os.path.isfile(place / name / each) for each in PROFILE_FILES if each):  # noqa: PTH113
                yield name

"""Which downlinks a range stands for: those of it of which there is anything, here or on the search path."""

from collections.abc import Iterable

from halfpipe import paths
from halfpipe.downlink.plan import Plan, cannot_be_listed, names_in
from halfpipe.errors import ConfigError, HalfPipeError
from halfpipe.ids import DownlinkId, Downlinks
from halfpipe.settings import Settings


def expand(settings: Settings, words: Iterable[str]) -> tuple[DownlinkId, ...]:
    """Return the downlinks that `words` stand for, each once, in order of the words.

    A single downlink stands for itself, whether there is anything of it or not. Of a range these are the downlinks
    with a directory on the RetDef search path, and those of which the working directory knows.

    Raises
    ------
    ConfigError
        If nothing is found in a range.
    HalfPipeError
        If a place cannot be listed, so that nobody can tell what is there.
    """
    found: list[DownlinkId] = []
    known: list[DownlinkId] | None = None
    for word in words:
        if DownlinkId.matches(word):
            found.append(DownlinkId(word))
            continue
        several = Downlinks(word)
        if known is None:
            known = _known(settings, several)
        inside = [dl for dl in known if several.first <= dl <= several.last]
        if not inside:
            raise ConfigError(
                f"{several}: there is no downlink from {several.first} to {several.last}; looked in "
                f"{', '.join(map(str, (*settings.paths.retdef, settings.paths.work)))}. Check the range and "
                "paths.retdef in the config; halfpipe status --all lists what there is."
            )
        found += inside
    return tuple(dict.fromkeys(found))


def _known(settings: Settings, several: Downlinks) -> list[DownlinkId]:
    found, closed = Plan(settings).on_search_path()
    for home, error in closed.items():
        raise HalfPipeError(f"{several}: {cannot_be_listed(home, error)}, or name downlinks one by one.")
    names = (name.removeprefix(paths.receipt("")) for name in names_in(settings.paths.work))
    return sorted(found.union(DownlinkId(name) for name in names if DownlinkId.matches(name)))

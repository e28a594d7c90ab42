"""Completion by click itself, of what a site has."""

from click.shell_completion import ShellComplete

from halfpipe.cli.main import command
from tests.support.worked_site import CUT, FIRST, HALF_WAY, LCI, SECOND, SPREAD
from tests.support.workflow import Site


def completed(*words: str, begin: str) -> list[str]:
    """Return what a shell offers for a word that begins so, after others."""
    found = ShellComplete(command, {}, "halfpipe", "_HALFPIPE_COMPLETE").get_completions(list(words), begin)
    return [one.value for one in found]


def test_ids_are_completed_by_those_of_the_site(shared: Site) -> None:
    site = ("--configfile", str(shared.configfile))
    assert completed(*site, "status", FIRST, begin="24") == [SECOND, HALF_WAY], "each once"
    assert completed(*site, "force", begin="2c") == [SPREAD, LCI, CUT]
    assert completed("--configfile", "no such", "status", begin="24") == []

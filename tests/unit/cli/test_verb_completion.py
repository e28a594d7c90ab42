"""Completion by click itself."""

from click.shell_completion import ShellComplete

from halfpipe.cli.main import command


def completed(*words: str, begin: str) -> list[str]:
    """Return what a shell offers for a word that begins so, after others."""
    found = ShellComplete(command, {}, "halfpipe", "_HALFPIPE_COMPLETE").get_completions(list(words), begin)
    return [one.value for one in found]


def test_verbs_and_options_are_completed() -> None:
    assert completed(begin="sh") == ["show"]
    assert completed("status", begin="--ch") == ["--check"]

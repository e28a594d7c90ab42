"""The site of a verb: how it is selected, that it is printed, and the error without one."""

import errno
import json
import os
import shutil
import subprocess
from pathlib import Path
from unittest.mock import Mock

import pytest

from halfpipe import paths
from halfpipe.cli import verbs
from tests.support.series import damage
from tests.support.verbs import COMMAND, on_terminal
from tests.support.verbs import halfpipe as give
from tests.support.worked_site import CUT, FIRST, LCI, SECOND, SPREAD
from tests.support.workflow import Site

OF_A_SITE = [
    ("status",), ("status", "--check"), ("show", FIRST, "2c2e5787"), ("show", "--table", "runs"),
    ("show", "--table", "waiting", "--days", "0"), ("explain", FIRST), ("find", "--met", "1"),
    ("online",), ("hold",), ("accept",), ("cleanup",), ("config",),
]  # fmt: skip
NOT_FOR_PROGRAMS = [("submit", FIRST), ("hold", "stage", "--undo"), ("ledger", "check")]


@pytest.fixture
def profile(shared: Site) -> Path:
    """Return the directory of the site, which is its profile too."""
    return shared.home


@pytest.mark.parametrize("words", [*OF_A_SITE, *NOT_FOR_PROGRAMS, ("unattended",)], ids=" ".join)
def test_a_missing_config_or_working_directory_is_an_error(
    words: tuple[str, ...],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path_factory.mktemp("temporary")))
    monkeypatch.chdir(tmp_path)
    ended = give(*words)
    assert (ended.exit_code, ended.stdout) == (2, "")
    assert "export SNAKEMAKE_PROFILE=" in ended.stderr
    file = tmp_path / "config.yaml"
    file.write_text(f"paths: {{work: {tmp_path}/work, stage: {tmp_path}/stage}}\n")
    if words != ("config",):
        ended = give(*words, configfile=file)
        # A turn reports it as it reports everything, once.
        said, other = (
            (ended.stderr, ended.stdout) if words != ("unattended",) else (ended.stdout, ended.stderr)
        )
        assert (ended.exit_code, other) == (2, "")
        assert f"mkdir -p -m 2775 {tmp_path}/work" in said
    assert list(tmp_path.iterdir()) == [file]


@pytest.mark.parametrize("words", [*OF_A_SITE, *NOT_FOR_PROGRAMS], ids=" ".join)
def test_every_verb_prints_its_site_except_for_programs(words: tuple[str, ...], profile: Path) -> None:
    ended = give(*words, "--profile", profile)
    head = f"HalfPipe at {profile}/work (profile {profile})\n"
    assert ended.stderr.startswith(head), ended.output
    assert head not in ended.stdout
    if words in OF_A_SITE:
        ended = give(*words, "--format", "json", "--profile", profile)
        found = json.loads(ended.stdout)
        assert ended.stderr == ""
        assert words == ("config",) or found["work"] == str(profile / "work")


def test_ways_to_name_the_site(profile: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    by_profile, by_config = ("--profile", profile), ("--configfile", profile / "config.yaml")
    runs = ("show", "--table", "runs")
    as_json = (*runs, "--format", "json")
    wanted = give(*as_json, *by_config).stdout
    assert FIRST in wanted
    for words in (
        (*by_profile, *as_json),
        (*runs, *by_profile, "--format", "json"),
        (*by_config, *as_json),
        ("--profile", "no such", *as_json, *by_profile),
    ):
        ended = give(*words)
        assert (ended.exit_code, ended.stdout, ended.stderr) == (0, wanted, "")
    assert give(*as_json, env={"SNAKEMAKE_PROFILE": str(profile)}).stdout == wanted
    monkeypatch.chdir(profile.parent)
    by_name = {"SNAKEMAKE_PROFILE": profile.name}
    ended = give(*runs, env=by_name)
    assert ended.stderr == f"HalfPipe at {profile}/work (profile {profile.name})\n"
    assert give(*runs, "--profile", "none", env=by_name).exit_code == 2


def test_config_files_of_the_command_line_replace_the_profiles(profile: Path, tmp_path: Path) -> None:
    over = tmp_path / "over.yaml"
    over.write_text("merge: {min_epus: 1}\n")
    ended = give("config", "--format", "json", "--profile", profile, "--configfile", over)
    assert (ended.exit_code, ended.stdout) == (2, "")
    assert f"error: no paths in {over}" in ended.stderr
    both: list[str | Path] = ["--configfile", profile / "config.yaml", "--configfile", over]
    found = json.loads(give("config", "--format", "json", *both, "--config", "outstanding.max=7").stdout)
    assert (found["merge"]["min_epus"], found["outstanding"]["max"]) == (1, 7)
    assert found["paths"]["work"] == str(profile / "work")


def test_snakemake_gets_the_options_that_select_the_site(tmp_path: Path) -> None:
    file, over = tmp_path / "profile.v9+.yaml", tmp_path / "over.yaml"
    options = (f"--profile={file}", "--configfile", str(over), "--config", "merge.min_epus=1")
    for content, cores, at_end in (
        ("cores: 3", None, ["--executor", "local", "--cores", "3"]), ("{}", None, ["--cores", str(os.cpu_count())]),
        ("executor: slurm", None, []), ("executor: slurm", 2, ["--executor", "local", "--cores", "2"]),
    ):  # fmt: skip
        file.write_text(content)
        call = verbs.Site(str(tmp_path), (over,), ("merge.min_epus=1",)).snakemake(cores)
        assert (call.options, call.is_remote) == (options, "slurm" in content)
        assert call.command("dl=1")[1:] == ["dl=1", *options, *at_end]


def test_an_error_of_the_file_system_has_no_traceback(own: Site) -> None:
    home = own.work / paths.receipts(FIRST)
    shutil.rmtree(home)
    home.symlink_to(home)
    own.halfpipe("show", "--table", "runs", FIRST).bad(f"error: {home} cannot be read: Too many levels of ")


def test_damaged_records_hide_nothing_else(own: Site) -> None:
    for place in (paths.deliveries(SPREAD), paths.submissions(FIRST)):
        damage(own.work, place)
    for words in (("explain", SECOND, LCI), ("show", SPREAD, LCI)):
        ended = own.halfpipe(*words)
        assert (ended.status, LCI in ended.out) == (1, True), words
        assert f"{paths.deliveries(SPREAD)}/000001.json" in ended.errors
        assert f"run {SPREAD}" not in ended.out
    assert paths.submissions(FIRST) in own.halfpipe("show", LCI).bad().errors
    shown = own.halfpipe("show", FIRST)
    assert (shown.status, "damaged" in shown.said or paths.submissions(FIRST) in shown.out) == (0, True)
    (one,) = (each for each in own.told("status", "--all")["downlinks"] if each["dl"] == FIRST)
    assert {"damaged"} <= {cause["code"] for cause in one["causes"]}


def test_a_defect_is_reported_as_such(shared: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("halfpipe.tables.frames.runs", lambda *_: 1 / 0)
    ended = shared.halfpipe("show", "--table", "runs")
    assert ended.status == 1
    assert "ZeroDivisionError" in ended.errors
    assert "error: a defect of HalfPipe, please report it: ZeroDivisionError: " in ended.errors
    full = Mock(side_effect=OSError(errno.ENOSPC, "No space left", str(shared.work)))
    monkeypatch.setattr("halfpipe.tables.frames.runs", full)
    assert "df -h" in shared.halfpipe("show", "--table", "runs").bad().errors


@pytest.mark.workflow
def test_a_closed_pipe_is_not_success(shared: Site) -> None:
    words = [*COMMAND, "status", "--configfile", str(shared.configfile)]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as reader:
        assert reader.stdout is not None
        assert reader.stderr is not None
        reader.stdout.close()
        said = reader.stderr.read()
    assert said.decode() == f"HalfPipe at {shared.work} ({shared.configfile})\n"
    assert reader.returncode == 1, "it does not claim that all is good"


@pytest.mark.workflow
def test_a_terminal_has_colors_unless_it_wants_none(shared: Site) -> None:
    words: list[str | Path] = ["show", "--table", "runs", "--configfile", shared.configfile]
    assert "\x1b[1m" in on_terminal(*words)
    for env in ({"FORCE_COLOR": "1", "NO_COLOR": "1"}, {"FORCE_COLOR": "1", "TERM": "dumb"}, {}):
        said = give(*words, env=env).output
        assert "\x1b" not in said
        assert "2 downlinks, 2 runs, 107 events staged, 72 of them submitted" in said
    assert said.isascii()


@pytest.mark.parametrize("columns", ["60", "80", "200"])
@pytest.mark.parametrize("words", [OF_A_SITE[0], *OF_A_SITE[2:5]], ids=" ".join)
def test_tables_fit_the_terminal(words: tuple[str, ...], columns: str, shared: Site) -> None:
    env = {"FORCE_COLOR": "1", "NO_COLOR": "1", "COLUMNS": columns}
    ended = give(*words, configfile=shared.configfile, env=env)
    table = [
        x for x in ended.stdout.splitlines() if x.startswith(("downlink  ", "run  ", f"{FIRST} ", "2c2e"))
    ]
    assert len(table) > 1
    assert max(map(len, table)) <= int(columns)
    assert all(line.split()[0] in {"downlink", "run", FIRST, SPREAD, LCI, CUT} for line in table), (
        "no id is cut"
    )

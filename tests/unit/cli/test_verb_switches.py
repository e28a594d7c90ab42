"""`halfpipe halt`, `resume` and `force`: the files that operators know, with who, when and why in them."""

import json
import re
from pathlib import Path

import pytest

from halfpipe.downlink import halts
from halfpipe.downlink.halts import Switch
from halfpipe.files.leases import whoami
from halfpipe.ids import DownlinkId, RunId
from halfpipe.run import force_list
from tests.support.verbs import halfpipe
from tests.support.worked_site import FIRST, HALF_WAY, SECOND, SPREAD
from tests.support.workflow import Ended

RUN = RunId(SPREAD)
ME = whoami()
WHO = rf"\d{{4}}-\d\d-\d\d \d\d:\d\d:\d\d UTC, {re.escape(ME.user)} on {re.escape(ME.host)}"


def give(configfile: Path, *words: str) -> Ended:
    """Return the end of a command, and what it said but for where it looked."""
    ended = halfpipe(*words, configfile=configfile)
    return Ended(ended.exit_code, ended.stdout + ended.stderr.partition("\n")[2])


@pytest.mark.parametrize("switch", list(Switch))
def test_a_switch_for_all_downlinks(configfile: Path, switch: Switch) -> None:
    work, name = configfile.parent / "work", switch.removeprefix("halt").lower()
    file = work / "halts" / switch
    said = give(configfile, "halt", name, "--reason", "disk full").good().said
    assert re.fullmatch(
        rf"{switch.what} of all downlinks is held by {re.escape(str(file))}: {WHO}: disk full\n", said
    )
    assert re.fullmatch(rf"{WHO}: disk full\n", file.read_text())
    assert halts.holding(work, switch) == file

    content = file.read_text()
    said = give(configfile, "halt", name, "--reason", "another one").good().said
    assert said == f"{switch.what} of all downlinks was already held by {file}: {content}"
    assert file.read_text() == content

    listed = give(configfile, "halt").good().said.splitlines()
    assert listed[1].split(maxsplit=2) == [name, "all", f"{file}: {content.strip()}"]
    assert listed[-1] == "1 halt switch"
    (one,) = json.loads(halfpipe("halt", "--json", configfile=configfile).stdout)["held"]
    assert one == {"switch": switch, "downlink": None, "file": str(file), "says": content.strip()}

    said = give(configfile, "resume", name).good().said
    assert said == f"{switch.what} of all downlinks may go on; it was held since {content}"
    assert halts.holding(work, switch) is None
    ended = give(configfile, "resume", name)
    assert ended.status == 1
    assert ended.said == f"error: {file}: no such file, so nothing was to be removed\n"
    assert give(configfile, "halt").good().said == "0 halt switches\n"


def test_a_switch_for_some_downlinks(configfile: Path) -> None:
    work = configfile.parent / "work"
    give(configfile, "halt", "l1", FIRST, f"dl={SECOND}", "--reason", "wait for N. N.").good()
    for downlink in (FIRST, SECOND):
        assert halts.holding(work, Switch.L1, DownlinkId(downlink)) == work / downlink / "haltL1"
    assert halts.holding(work, Switch.L1, DownlinkId(HALF_WAY)) is None
    assert give(configfile, "halt").good().said.count("wait for N. N.") == 2
    give(configfile, "halt", "l1", "--reason", "all").good()
    said = give(configfile, "resume", "l1", FIRST).good().said
    assert said.endswith(f"but it is held for all downlinks, by {work}/halts/haltL1: halfpipe resume l1\n")
    ended = give(configfile, "resume", "l1", FIRST)
    assert ended.status == 1
    assert ended.said == (
        f"error: {work}/{FIRST}/haltL1: no such file, so nothing was to be removed, but {work}/halts/haltL1 holds it: "
        "halfpipe resume l1\n"
    )


def test_what_a_person_made_by_hand_is_a_switch_too(configfile: Path) -> None:
    work = configfile.parent / "work"
    (work / "halts").mkdir()
    (work / "halts" / "haltStage").symlink_to("nowhere")
    (work / FIRST / "haltOnline").touch()
    (work / SECOND / "haltOnline").write_text("\x1b[2J N. N.:\n  disk\tfull\n")
    assert (
        give(configfile, "halt", "stage", "--reason", "x")
        .good()
        .said.startswith("staging of all downlinks was already held")
    )
    said = give(configfile, "halt").good().said
    assert said.count("it does not say who and why") == 2
    assert f"{work}/{SECOND}/haltOnline: ?[2J N. N.: disk full\n" in said
    assert give(configfile, "resume", "stage").good().said == (
        "staging of all downlinks may go on; it was held since nobody knows when\n"
    )
    assert list((work / "halts").iterdir()) == []
    assert not (work / "halts" / "nowhere").exists()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["halt", "stage"], 'Say why, for the next person: --reason "TEXT".'),
        (["halt", "stage", "--reason", " "], 'Say why, for the next person: --reason "TEXT".'),
        (["halt", "cleanup", FIRST, "--reason", "x"], "cleanup is held for all downlinks only: name none."),
        (["halt", "everything"], "'everything' is not one of 'stage', 'l1', 'online', 'cleanup'"),
        (["resume"], "Missing argument"),
        (["resume", "cleanup", FIRST], "cleanup is held for all downlinks only: name none."),
        (["force", SPREAD], 'Say why, for the next person: --reason "TEXT".'),
        (["force", "--take-back"], "Name the runs"),
        (["force", FIRST], "is not a run id"),
    ],
)  # fmt: skip
def test_what_is_refused(configfile: Path, words: list[str], said: str) -> None:
    ended = give(configfile, *words)
    assert ended.status == 2
    assert said in ended.said
    assert not (configfile.parent / "work" / "halts").exists()
    assert not (configfile.parent / "work" / "force").exists()


def test_a_run_is_given_up_and_that_is_taken_back(configfile: Path) -> None:
    work = configfile.parent / "work"
    file = work / "force" / RUN.l1
    first, then = give(configfile, "force", RUN, "--reason", "EPU 1 was off").good().said.splitlines()
    assert re.fullmatch(rf"run {RUN} \({RUN.l1}\) is given up \({WHO}: EPU 1 was off\)", first)
    assert then == (
        "  it counts when a downlink of it is processed; "
        f"at once: snakemake dl={SECOND} {SECOND}/ledger.json -R deliver_run"
    )
    assert force_list.read(work).runs == {RUN}
    content = file.read_text()
    said = give(configfile, "force", RUN.l1, "--reason", "another").good().said
    assert said.startswith(f"run {RUN} ({RUN.l1}) was already given up ({content.strip()})")
    assert file.read_text() == content

    listed = give(configfile, "force").good().said.splitlines()
    assert listed[1].split(maxsplit=2) == [RUN, RUN.l1, content.strip()]
    assert listed[-1] == "1 run given up"
    found = json.loads(halfpipe("force", "--json", configfile=configfile).stdout)
    assert found["runs"] == [{"run": RUN, "l1_run": RUN.l1, "says": content.strip()}]

    by_hand = work / "force" / f"00770101-{RUN}"
    by_hand.touch()
    said = give(configfile, "force", RUN.l1, "--take-back").good().said
    assert [line.split(": ")[1] for line in said.splitlines()] == [
        f"{by_hand} is removed",
        f"{file} is removed",
    ]
    assert force_list.read(work).runs == frozenset()
    ended = give(configfile, "force", RUN, "--take-back")
    assert ended.status == 1
    assert ended.said == f"error: run {RUN} ({RUN.l1}) is not given up: no file in {work}/force names it\n"
    assert give(configfile, "force").good().said == "0 runs given up\n"


def test_a_run_that_nobody_knows_is_not_given_up(configfile: Path) -> None:
    ended = give(configfile, "force", "2c2e0000", "--reason", "x")
    assert ended.status == 1
    assert "error: nothing is known of run 2c2e0000 (r0741212160): there is no " in ended.said


def test_a_name_that_is_no_run_is_told(configfile: Path) -> None:
    home = configfile.parent / "work" / "force"
    home.mkdir()
    (home / "README").touch()
    ended = give(configfile, "force")
    assert ended.status == 1
    assert f"{home}/README: gives up no run" in ended.said


def test_a_file_that_cannot_be_made_is_told(configfile: Path) -> None:
    (configfile.parent / "work" / "halts").write_text("in the way")
    ended = give(configfile, "halt", "stage", "--reason", "x")
    assert ended.status == 1
    assert ended.said.startswith(
        f"error: {configfile.parent}/work/halts/haltStage: cannot be written or removed: "
    )

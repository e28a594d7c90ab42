"""A downlink that was handed off, and a stand-in for the pipeline that it is submitted to."""

import hashlib
import json
import shlex
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from halfpipe import paths
from halfpipe.files import working_directory
from halfpipe.files.records import Series
from halfpipe.formats.evt import pack_header
from halfpipe.ids import DownlinkId, RunId
from halfpipe.notify.submissions import submissions
from halfpipe.notify.submit import Submission
from halfpipe.settings import ROOT, Decoder, Ledger, Paths, Settings, Submit
from halfpipe.state.attempts import Action, By, Outcome
from halfpipe.state.deliveries import EventFile
from tests.support.golden_cases import GOLDEN
from tests.support.receipts import delivery, receive
from tests.support.workflow import Site

DL = DownlinkId("240601001")
RUN = RunId("2c2e5787")
# The header of the event file; Level-1 reads nothing else.
CONTENT = pack_header(
    runid=int(DL), seconds=(1, 2), sequences=(1, 2), events=2, moot_key=0, moot_alias="nomSciOps"
)
CHECKSUM = hashlib.sha256(CONTENT).hexdigest()
CLIENT = ROOT / "tests" / "support" / "standin" / "pipeline"
VARIABLES = "-D DOWNLINK_ID={dl} -D DOWNLINK_RAWDIR={rawdir}"


def submit_commands(server: Path) -> dict[str, str]:
    """Return the config commands that submit to the stand-in that keeps its state in `server`."""
    client = shlex.join([sys.executable, str(CLIENT), "--server", str(server)])
    ask = f"python scripts/pipeline_stream.py --mode DEV --new-version --client {shlex.quote(client)}"
    return {
        "command": f"{client} -m DEV createStream -S {{dl}} {VARIABLES} L1Proc",
        "check": f"{ask} check {{dl}}",
        "rollback": f"{ask} rollback {{dl}}",
    }


def commands(server: Path, downlink: str) -> list[str]:
    """Return the commands that Level-1's task got for a downlink, in order."""
    file = server / "journal.jsonl"
    lines = map(json.loads, file.read_text().splitlines() if file.exists() else [])
    return [each["command"] for each in lines if (each["task"], each["stream"]) == ("L1Proc", int(downlink))]


@dataclass
class Level1:
    """A handed-off downlink in a working directory and a stage, and a stand-in for the pipeline."""

    home: Path

    def __post_init__(self) -> None:
        self.work, self.stage, self.server = (self.home / name for name in ("work", "stage", "server"))
        working_directory.begin(self.work)

    def settings(self, **submit: str | float | None) -> Settings:
        """Return settings with all commands, some of them replaced by `submit`."""
        given: dict[str, Any] = submit_commands(self.server) | submit
        decoder = Decoder(command="flight-decoder")  # with the built-in one the data would be simulated
        return Settings(
            Paths(self.work, self.stage), decoder=decoder, ledger=Ledger(url=None), submit=Submit(**given)
        )

    @property
    def creates(self) -> str:
        """The command line that creates the stream of the downlink."""
        command = submit_commands(self.server)["command"]
        return command.replace("{dl}", DL).replace("{rawdir}", str(self.stage / DL))

    def hand_off(self, number: int = 1, *, files: bool = True, downlink: str = DL) -> None:
        """Record a hand-off of one run with the fields that a submission reads, and stage its file."""
        name = paths.event_file(RUN.l1, 1)
        file = EventFile(name, 2, (1, 2), (1, 2), len(CONTENT), CHECKSUM)
        receive(self.work, downlink, [(RUN, delivery(downlink, [file] if files else []))], number)
        home = self.stage / paths.staged_run(downlink, RUN.l1)
        home.mkdir(parents=True, exist_ok=True)
        (home / name).write_bytes(CONTENT)
        token = self.stage / paths.tokens(RUN.l1) / Path(name).stem
        token.parent.mkdir(parents=True, exist_ok=True)
        token.touch()

    def go_wrong(self, **modes: Any) -> None:
        """Set what goes wrong in the stand-in."""
        self.server.mkdir(exist_ok=True)
        (self.server / "modes.json").write_text(json.dumps(modes))

    def commands(self, downlink: str = DL) -> list[str]:
        """Return the commands that the stand-in got for a downlink."""
        return commands(self.server, downlink)

    def leave_open(self, action: Action = Action.SUBMIT, outcome: Outcome | None = None) -> None:
        """Record an attempt, as a killed process leaves it, or with an outcome."""
        record = submissions(self.work, DL)
        record.intend(("a", "command line"), action=action, handoff=1)
        if outcome is not None:
            record.conclude(outcome, By.PERSON)

    def recorded(self) -> list[dict[str, Any]]:
        """Return the records of the submissions, oldest first."""
        return [dict(record.values) for record in Series(self.work, paths.submissions(DL)).read()]

    def words(self) -> list[str]:
        """Return the recorded word for the outcome of each attempt."""
        return [attempt.outcome for attempt in submissions(self.work, DL).every]


def outcome_of(made: Submission) -> dict[str, Any]:
    """Return what a submission came to."""
    told = made.record.last_confirmed
    known = told or (made.record.last if made.handed.names_files else None)
    return {
        "handoff": made.handed.number,
        "state": str(known.outcome) if known else "nothing to submit",
        "submitted": told.handoff if told else None,
        "command": shlex.join(known.command) if known and known.command else None,
    }


def is_unknown(work: Path, downlink: str) -> bool:
    """Tell whether the outcome of the latest attempt is unknown."""
    last = submissions(work, downlink).last
    return last is not None and not last.is_known


def with_level1(home: Path, *downlinks: str) -> tuple[Site, Level1]:
    """Return a site with downlinks on its search path, and the stand-in that it submits to."""
    site = Site(home)
    level1 = Level1(home)
    site.replay(GOLDEN / "split2" / "in")
    site.configure(merge={"min_events": 1}, ledger={"url": None}, submit=submit_commands(level1.server))
    site.add_retdefs(GOLDEN / "split2" / "in", *downlinks)
    return site, level1

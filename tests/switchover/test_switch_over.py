"""All commands of docs/switch-over/runbook.md in their order, with stand-ins for what else is at S3DF."""

import json
import re
from pathlib import Path

import pytest
import yaml

from halfpipe.ids import DownlinkId, RunId
from tests.support import documents
from tests.support.documents import Command, commands, sections
from tests.support.golden_cases import read_case
from tests.support.in_process import ROOT
from tests.support.ledger_files import Database, whole
from tests.support.level1 import CLIENT
from tests.support.pipeline_server import TASK_XML, variables_of
from tests.support.workflow import REPLAY
from tests.switchover.support.legacy_ledger import LegacyLedger
from tests.switchover.support.takeover_cases import TAKEOVER

RUNBOOK = "docs/switch-over/runbook.md"
CASE = TAKEOVER / "split3_after2"
FIRST, SECOND, THIRD = map(DownlinkId, ("240601001", "240601002", "240602001"))
RUN = RunId("2c2e5787")
FLIGHT = "data/fermi/ground/ISOC/flight"
MOOT_KEYS = "HalfPipe-moot_keys.txt"
CHECKOUT, CLIENTS = "group/fermi/ground/halfpipe", "group/fermi/sw/pipeline-II/dev"
LEGACY_XML = "group/fermi/ground/PipelineConfig/halfPipe/v7r0p0/xml/HalfPipe-test.xml"
LEGACY_STAGE = "group/fermi/a/isoc/flightOps/volumes/vol5/offline/halfPipe/v7r0p0_devel/u28/stage"


class World:
    """S3DF besides HalfPipe, below a directory: the legacy, its downlinks, the server, the dispatcher."""

    def __init__(self, home: Path) -> None:
        self.sdf = home / "sdf"
        self.downlinks = self.sdf / FLIGHT / "Downlinks"
        for place in (
            self.downlinks,
            self.sdf / CLIENTS,
            (self.sdf / LEGACY_XML).parent,
            self.sdf / CHECKOUT,
        ):
            place.mkdir(parents=True)
        for path in CLIENT.parent.iterdir():
            (self.sdf / CLIENTS / path.name).symlink_to(path)
        self.server = home / "server"
        self.server.mkdir()
        (self.server / "modes.json").write_text(json.dumps({"at_once": True}))
        keys = (f"r{run:010d} {key} {alias}\n" for run, (key, alias) in read_case(CASE).moot.items())
        (self.sdf / FLIGHT / MOOT_KEYS).write_text("".join(keys))
        self.ledger = Database(f"sqlite:///{home / 'isocflight.sqlite'}")
        legacys = LegacyLedger(self.ledger)
        legacys.load(FIRST, {RUN: [whole(956, 6)[:3], whole(957, 6)[:3]]})
        legacys.load(SECOND, {RUN: [whole(956, 6)[3:5], whole(957, 6)[3:5]]})
        # The legacy's task; its jobs do nothing.
        text = (
            TASK_XML.read_text().replace("${command} process", "true").replace("${command} launchL1", "true")
        )
        (self.sdf / LEGACY_XML).write_text(text.replace('version="3.0"', 'version="2.0"'))

    def checkout(self) -> Path:
        """Copy the project to its place at S3DF, with the paths of this world and no Slurm."""
        project = documents.project(self.sdf / CHECKOUT)
        config = yaml.safe_load((ROOT / "config" / "s3df.yaml").read_text())
        config["paths"] |= {"level0": None}
        config |= {
            "decoder": {"command": f"sh {REPLAY} --source {CASE / 'in'}"},
            "magic7": {"command": None},
            "level0": {},
            "ledger": {"url": self.ledger.url},
            "lease": {"seconds": 5},
            "merge": {"min_events": read_case(CASE).rules.min_events},
        }
        config["submit"] = config.pop("submit")  # at the end, as in the file that the runbook edits
        (project / "config" / "s3df.yaml").write_text(self.here(yaml.safe_dump(config, sort_keys=False)))
        shadow = project / "src" / "halfpipe_switchover" / "shadow"
        for path in (project / "config" / "dev.yaml", shadow / "shadow.yaml"):
            content = yaml.safe_load(path.read_text())
            content.pop("level0", None)
            content["paths"].get("retdef", [])[1:] = []
            path.write_text(self.here(yaml.safe_dump(content)))
        task = project / "profiles" / "s3df" / TASK_XML.name
        task.write_text(self.here(task.read_text()).replace('"cores">16<', '"cores">2<'))
        for home in (project / "profiles" / "s3df", shadow):
            path = home / "profile.v9+.yaml"
            configfile = yaml.safe_load(path.read_text())["configfile"]
            path.write_text(yaml.safe_dump({"configfile": configfile, "cores": 2}))
        (project / "s3df").symlink_to("profiles/s3df")
        return project

    def here(self, text: str) -> str:
        """Return a text with the paths of S3DF below this world."""
        return text.replace("/sdf/", f"{self.sdf}/")

    def delivered(self, downlink: str) -> list[str]:
        """Return what the legacy does for a downlink: its directory, and the stream of Level-1."""
        tree = CASE / "legacy" / downlink
        given = f"DOWNLINK_RAWDIR={self.sdf / LEGACY_STAGE / downlink}"
        return [f"cp -r {tree} {self.downlinks}", f"{CLIENT} createStream -S {downlink} -D {given} L1Proc"]

    def level1_reads(self, downlink: str) -> str:
        """Return where Level-1's stream of a downlink looks for files, relative to S3DF."""
        stream = self.server / "PROD" / "L1Proc" / "1.0" / downlink / "stream.json"
        rawdir = json.loads(stream.read_text())["variables"]["DOWNLINK_RAWDIR"]
        return str(Path(rawdir).relative_to(self.sdf))

    def dispatched(self, downlink: str) -> list[str]:
        """Return what the dispatcher does for a downlink: RetDefs, then a stream of the newest version of the task."""
        retdefs = sorted((CASE / "in" / downlink).glob("RetDef-*.xml"))
        place = self.downlinks / downlink
        text = variables_of(downlink, len(retdefs), place.parent)
        given = ",".join(f"{name}={value}" for name, value in text.items())
        return [
            f"mkdir {place}",
            f"cp {' '.join(map(str, retdefs))} {place}",
            f"{CLIENT} createStream -S {downlink} -D {given} HalfPipe",
        ]


def runbook(world: World) -> list[Command]:
    """Return the commands of the runbook, with other events before a section or after a command."""
    load = "pipeline -m PROD load s3df/HalfPipe.xml"
    (hourly,) = re.findall(r"^    0 \* \* \* \* (.*)$", (ROOT / RUNBOOK).read_text(), re.MULTILINE)
    meanwhile = {
        "What changes and what stays": [*world.delivered(FIRST), f"{CLIENT} load {world.sdf / LEGACY_XML}"],
        "Each day of the shadow: compare": world.delivered(SECOND),
        "The day of the switch": [f"({world.here(hourly)})"],
        load: world.dispatched(THIRD),
    }
    wanted = []
    for title, text in sections(RUNBOOK).items():
        wanted += [Command(line, ("…",)) for line in meanwhile.pop(title, [])]
        for each in commands(text):
            wanted.append(Command(world.here(each.text), each.shown))
            wanted += [Command(line, ("…",)) for line in meanwhile.pop(each.text, [])]
    assert not meanwhile
    return wanted


@pytest.mark.workflow
def test_the_runbook_switches_from_the_legacy_to_halfpipe_and_back(tmp_path: Path) -> None:
    world = World(tmp_path)
    wanted = runbook(world)
    documents.check(wanted, documents.run(world.checkout(), wanted, {"PIPELINE_STANDIN": str(world.server)}))
    # Level-1 takes what the legacy staged after the way back, and what HalfPipe reprocessed of the legacy's.
    assert world.level1_reads(THIRD) == f"{LEGACY_STAGE}/{THIRD}"
    assert world.level1_reads(FIRST) == f"{FLIGHT}/HalfPipe-stage/{FIRST}"

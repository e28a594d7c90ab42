"""All commands of docs/switch-over.md in their order, with stand-ins for what else is at S3DF."""

import json
from pathlib import Path

import pytest
import yaml

from halfpipe.ids import DownlinkId, RunId
from halfpipe.settings import SUBMIT_CONTRACT
from tests.support import documents
from tests.support.documents import Command, commands, sections
from tests.support.golden_cases import TAKEOVER, read_case
from tests.support.in_process import ROOT
from tests.support.ledger_files import Database, whole
from tests.support.legacy_ledger import LegacyLedger
from tests.support.level1 import CLIENT
from tests.support.pipeline_server import TASK_XML
from tests.support.workflow import REPLAY

RUNBOOK = "docs/switch-over.md"
CASE = TAKEOVER / "split3_after2"
FIRST, SECOND, THIRD = map(DownlinkId, ("240601001", "240601002", "240602001"))
RUN = RunId("2c2e5787")
FLIGHT = "data/fermi/ground/ISOC/flight"
MOOT_KEYS = "HalfPipe-moot_keys.txt"
CHECKOUT, CLIENTS = "group/fermi/ground/halfpipe", "group/fermi/sw/pipeline-II/dev"
LEGACY_XML = "group/fermi/ground/PipelineConfig/halfPipe/v7r0p0/xml"


class World:
    """S3DF besides HalfPipe, below a directory: the legacy, its downlinks, the server, the dispatcher."""

    def __init__(self, home: Path) -> None:
        self.sdf = home / "sdf"
        self.downlinks = self.sdf / FLIGHT / "Downlinks"
        for place in (self.downlinks, self.sdf / CLIENTS, self.sdf / LEGACY_XML, self.sdf / CHECKOUT):
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
        for version in ("2.0", "3.1"):
            file = self.sdf / LEGACY_XML / f"HalfPipe-{version}.xml"
            file.write_text(text.replace('version="3.0"', f'version="{version}"'))

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
            "retdef": {"settle_seconds": 7200},
            "merge": {"min_events": read_case(CASE).rules.min_events},
            "submit": {
                "command": SUBMIT_CONTRACT,
                "check": "python scripts/pipeline_stream.py check {dl}",
                "rollback": "python scripts/pipeline_stream.py rollback {dl}",
            },
        }
        (project / "config" / "s3df.yaml").write_text(self.here(yaml.safe_dump(config)))
        for name in ("dev", "shadow"):
            path = project / "config" / f"{name}.yaml"
            content = yaml.safe_load(path.read_text())
            content.pop("level0", None)
            content["paths"].get("retdef", [])[1:] = []
            path.write_text(self.here(yaml.safe_dump(content)))
        task = project / "profiles" / "s3df" / TASK_XML.name
        task.write_text(self.here(task.read_text()).replace('"cores">16<', '"cores">2<'))
        for name in ("s3df", "shadow"):
            path = project / "profiles" / name / "profile.v9+.yaml"
            configfile = yaml.safe_load(path.read_text())["configfile"]
            path.write_text(yaml.safe_dump({"configfile": configfile, "cores": 2}))
            (project / name).symlink_to(f"profiles/{name}")
        return project

    def here(self, text: str) -> str:
        """Return a text with the paths of S3DF below this world."""
        return text.replace("/sdf/", f"{self.sdf}/")

    def delivered(self, downlink: str) -> list[str]:
        """Return what the legacy does for a downlink: its directory, and the stream of Level-1."""
        tree = CASE / "legacy" / downlink
        return [f"cp -r {tree} {self.downlinks}", f"{CLIENT} createStream -S {downlink} L1Proc"]

    def dispatched(self, downlink: str) -> list[str]:
        """Return what the dispatcher does for a downlink: RetDefs, then a stream of the newest version of the task."""
        retdefs = sorted((CASE / "in" / downlink).glob("RetDef-*.xml"))
        place = self.downlinks / downlink
        text = {
            "taskBase": "none",
            "outputBase": place.parent,
            "downlinkID": downlink,
            "numChunks": len(retdefs),
            "level1Name": "L1Proc",
            "startL1": 1,
            "maxEvents": 125000,
            "fosFlavor": "ISOC_PROD",
            "fmxRoot": "none",
            "pipelineFlavor": "PROD",
            "startOnline": 0,
            "onlineName": "none",
        }
        given = ",".join(f"{name}={value}" for name, value in text.items())
        return [
            f"mkdir {place}",
            f"cp {' '.join(map(str, retdefs))} {place}",
            f"{CLIENT} createStream -S {downlink} -D {given} HalfPipe",
        ]


def runbook(world: World) -> list[Command]:
    """Return the commands of the runbook, with other events before a section or after a command."""
    load = "pipeline -m PROD load s3df/HalfPipe.xml"
    meanwhile = {
        "What changes and what stays": [
            *world.delivered(FIRST),
            f"{CLIENT} load {world.sdf / LEGACY_XML}/HalfPipe-2.0.xml",
        ],
        "Each day of the shadow: compare": world.delivered(SECOND),
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

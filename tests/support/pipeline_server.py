"""The stand-in for Pipeline-II with the task HalfPipe. Its jobs run in a copy of the project with a site's config."""

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from tests.support import documents
from tests.support.in_process import ROOT
from tests.support.level1 import CLIENT, commands
from tests.support.workflow import Ended, Running, Site, run

TASK_XML = ROOT / "profiles" / "s3df" / "HalfPipe.xml"
CORES = "2"


def variables_of(downlink: str, chunks: int, retdefs: Path, max_events: int = 125000) -> dict[str, Any]:
    """Return the variables that the dispatcher gives to the stream of a downlink."""
    numbers = {"downlinkID": int(downlink), "numChunks": chunks, "maxEvents": max_events}
    names = {"level1Name": "L1Proc", "onlineName": "intOnlineAnalysis"}
    places = {"taskBase": "/legacy", "outputBase": retdefs, "fmxRoot": "/fmx"}
    production = {"fosFlavor": "ISOC_PROD", "pipelineFlavor": "PROD", "startL1": 1, "startOnline": 0}
    return numbers | names | places | production


@dataclass
class Server:
    """The server in a directory, and the checkout that its jobs run in, with the config of `site`."""

    site: Site
    mode: str = "PROD"

    def __post_init__(self) -> None:
        self.home = self.site.home / "server"
        self.checkout = self.site.home / "checkout"
        if not self.checkout.exists():
            documents.project(self.checkout)
            self.configure()
            self.client("load", str(TASK_XML)).good()

    def configure(self, **sections: Any) -> None:
        """Change the site's config, and write it to the checkout."""
        self.site.configure(**sections)
        for name in ("s3df", "dev"):
            (self.checkout / "config" / f"{name}.yaml").write_text(yaml.safe_dump(self.site.config))

    @property
    def environment(self) -> dict[str, str]:
        """The additional environment variables of the client and the jobs."""
        return {"PIPELINE_STANDIN": str(self.home), "PYTHONPATH": str(self.checkout / "src")}

    def client(self, *words: str) -> Ended:
        return run([sys.executable, str(CLIENT), "-m", self.mode, *words], self.environment)

    def create(self, downlink: str, chunks: int, **variables: Any) -> Ended:
        """Create a stream of the task as the dispatcher does."""
        given = variables_of(downlink, chunks, self.site.retdefs, self.site.settings.merge.max_events)
        given |= {"halfpipeRoot": self.checkout, "cores": CORES} | variables
        words = [f"-D{name}={value}" for name, value in given.items()]
        return self.client("createStream", "-S", str(int(downlink)), *words, "HalfPipe")

    def run(self, downlink: str = "") -> Ended:
        """Have the server run jobs until none is left."""
        return self.client("run", *([f"HalfPipe[{int(downlink)}]"] if downlink else [])).good()

    def running(self, downlink: str) -> Running:
        """Have the server run the jobs of a stream in the background."""
        words = [sys.executable, str(CLIENT), "-m", self.mode, "run", f"HalfPipe[{int(downlink)}]"]
        return Running(words, self.site.home, self.environment)

    def roll_back(self, downlink: str, **variables: Any) -> Ended:
        """Roll a stream back, with arguments, and run its jobs."""
        words = [f"-D{name}={value}" for name, value in variables.items()]
        self.client("rollbackStream", "--force", *words, f"HalfPipe[{int(downlink)}]").good()
        return self.run(downlink)

    def place(self, downlink: str) -> Path:
        """Return the directory of a downlink's newest stream."""
        places = (self.home / self.mode / "HalfPipe").glob(f"*/{int(downlink)}")
        return max(places, key=lambda place: place.stat().st_mtime)

    def stream(self, downlink: str) -> dict[str, Any]:
        stream: dict[str, Any] = json.loads((self.place(downlink) / "stream.json").read_text())
        return stream

    def states(self, downlink: str) -> dict[str, str]:
        """Return the states of all attempts at each process of the newest stream, oldest first."""
        instances = self.stream(downlink)["instances"]
        return {name: " ".join(each["state"] for each in attempts) for name, attempts in instances.items()}

    def variables(self, downlink: str) -> dict[str, Any]:
        """Return the variables that the processes set."""
        of_processes = self.stream(downlink)["set"]
        return {name: value for each in of_processes.values() for name, value in each.items()}

    def log(self, downlink: str, process: str) -> str:
        """Return the log of the latest attempt at a process."""
        return (self.place(downlink) / process / "logFile.txt").read_text()

    def level1(self, downlink: str) -> list[str]:
        """Return the commands that Level-1's task got for a downlink."""
        return commands(self.home, downlink)

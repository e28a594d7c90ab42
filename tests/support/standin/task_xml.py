"""Tasks of Pipeline-II as their XML has them, for the stand-in and for tests.

The facts are those of the public schema 2.2 (slaclab/pipeline-web, ``schemas/2.2``) and of the public User's Guide. The
flight server's own schema is 2.3, which is not public.
"""

import xml.etree.ElementTree as ET
from dataclasses import dataclass, field
from pathlib import Path

NAMESPACE = "{http://glast-ground.slac.stanford.edu/pipeline}"
MOST = {
    "name": 30,
    "version": 12,
    "site": 64,
    "executable": 256,
    "batchOptions": 256,
}  # letters of attributes


@dataclass(frozen=True)
class Process:
    """A process that is a batch job: its command, what it comes after and with which status, and its retries."""

    name: str
    executable: str
    batch_options: str = ""
    after: dict[str, str] = field(default_factory=dict)
    retries: int = 0


@dataclass(frozen=True)
class Task:
    """A task: its variables, its prerequisites by type, and its processes in order."""

    name: str
    version: str
    variables: dict[str, str]
    prerequisites: dict[str, str]
    processes: tuple[Process, ...]


def tasks(path: Path) -> list[Task]:
    """Read a file of tasks whose processes are all jobs; ValueError if the server would not take it."""
    root = ET.fromstring(path.read_text())
    for element in root.iter():
        long = [key for key, value in element.items() if len(value) > MOST.get(key, len(value))]
        if long:
            raise ValueError(f"{element.tag}: too long: {long}")
    read = [_task(one) for one in root.findall(f"{NAMESPACE}task")]
    for task in read:
        if unknown := {name for one in task.processes for name in one.after} - {
            p.name for p in task.processes
        }:
            raise ValueError(f"task {task.name}: no process {unknown}")
    return read


def _task(one: ET.Element) -> Task:
    def found(path: str, of: ET.Element = one) -> list[ET.Element]:
        return of.findall("/".join(NAMESPACE + name for name in path.split("/")))

    processes = []
    for each in found("process"):
        (job,) = found("job", each)
        after = {dep.attrib["process"]: dep.get("status", "SUCCESS") for dep in found("depends/after", each)}
        retries = int(each.get("autoRetryMaxAttempts", "0"))
        processes.append(
            Process(
                each.attrib["name"], job.attrib["executable"], job.get("batchOptions", ""), after, retries
            )
        )
    return Task(
        one.attrib["name"],
        one.get("version", "1.0"),
        {var.attrib["name"]: (var.text or "").strip() for var in found("variables/var")},
        {each.attrib["name"]: each.attrib["type"] for each in found("prerequisites/prerequisite")},
        tuple(processes),
    )

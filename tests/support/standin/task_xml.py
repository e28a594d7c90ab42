"""Tasks of Pipeline-II in XML, for the stand-in and for tests: which elements are allowed where, and their meaning.

The facts are from the public schema 2.2 (slaclab/pipeline-web, ``schemas/2.2``) and the public User's Guide. The flight
server uses schema 2.3, which is not public. The schema also has scripts, subtasks and environments, which are refused
here: the stand-in runs only batch jobs.
"""

import re
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

NAMESPACE = "{http://glast-ground.slac.stanford.edu/pipeline}"
# Maximum numbers of letters.
NAME = 30
VERSION = 12
NOTATION = 200
SITE = 64
PATH = 256
STATES = {
    "DONE", "WAITING", "READY", "QUEUED", "SUBMITTED", "RUNNING", "SUCCESS", "FAILED", "TERMINATING", "TERMINATED",
    "CANCELING", "CANCELED", "SKIPPED",
}  # fmt: skip
OF_A_JOB = [
    "executable", "maxCPU", "maxWallClock", "maxMemory", "workingDir", "batchOptions", "queue",
    "allocationGroup", "jobName", "priority", "logFile",
]  # fmt: skip
# By element: its children in order, as a regular expression; its attributes, with their maximum lengths.
FORM: dict[str, tuple[str, dict[str, int]]] = {
    "pipeline": ("(task )+", {}),
    "task": (
        "(notation )?(variables )?(prerequisites )?(process )+",
        {"name": NAME, "type": NAME, "version": VERSION, "priority": NAME},
    ),
    "notation": ("", {}),
    "variables": ("(var )+", {}),
    "var": ("", {"name": NAME}),
    "prerequisites": ("(prerequisite )+", {}),
    "prerequisite": ("", {"name": NAME, "type": NAME}),
    "process": (
        "(notation )?job (depends )?",
        {"name": NAME, "site": SITE, "autoRetryMaxAttempts": NAME, "retryOn": SITE},
    ),
    "job": ("", dict.fromkeys(OF_A_JOB, PATH)),
    "depends": ("(after )*", {}),
    "after": ("", {"process": PATH, "status": NAME}),
}
NEEDED = {"var": {"name"}, "task": {"name", "type"}, "process": {"name"}, "after": {"process"}}
TYPES = {"string", "integer"}  # known types of prerequisites


@dataclass(frozen=True)
class Process:
    """A batch job: its command, options, and retries, and the processes it waits for with their required status."""

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


def problems(text: str) -> list[str]:
    """Return the problems in the text of a file of tasks."""
    try:
        root = ET.fromstring(text)
    except ET.ParseError as error:
        return [str(error)]
    return [*_problems(root, ""), *_unknown_processes(root)]


def _problems(element: ET.Element, place: str) -> Iterator[str]:
    name = element.tag.removeprefix(NAMESPACE)
    is_root = not place
    place = f"{place}/{name}[{element.get('name', '')}]"
    if name not in FORM or (is_root and name != "pipeline"):
        yield f"{place}: no such element here"
        return
    children, attributes = FORM[name]
    found = "".join(f"{child.tag.removeprefix(NAMESPACE)} " for child in element)
    if not re.fullmatch(children, found):
        yield f"{place}: has {found or 'nothing'}, should have {children}"
    for missing in NEEDED.get(name, set()) - set(element.keys()):
        yield f"{place}: has no {missing}"
    for key, value in element.items():
        most = attributes.get(key)
        if most is None:
            if not key.startswith("{http://www.w3.org/2001/XMLSchema-instance}"):
                yield f"{place}: {key} is not known"
        elif not 1 <= len(value) <= most:
            yield f"{place}: {key} has {len(value)} letters, 1 to {most} are allowed"
    if name == "notation" and not 1 <= len(element.text or "") <= NOTATION:
        yield f"{place}: {len(element.text or '')} letters"
    if name == "after" and element.get("status", "SUCCESS") not in STATES:
        yield f"{place}: no status {element.get('status')}"
    if name == "prerequisite" and element.get("type") not in TYPES:
        yield f"{place}: no type {element.get('type')}"
    for child in element:
        yield from _problems(child, place)


def _unknown_processes(root: ET.Element) -> Iterator[str]:
    """Yield dependencies on processes that the task does not have."""
    for task in root.iter(f"{NAMESPACE}task"):
        known = {process.get("name") for process in task.iter(f"{NAMESPACE}process")}
        for each in task.iter(f"{NAMESPACE}after"):
            if each.get("process") not in known:
                yield f"task {task.get('name')}: no process {each.get('process')}"


def tasks(path: Path) -> list[Task]:
    """Read a file of tasks whose processes are all jobs.

    Raises
    ------
    ValueError
        If the file does not follow the schema.
    """
    text = path.read_text()
    if wrong := problems(text):
        raise ValueError("; ".join(wrong))
    return [_task(one) for one in ET.fromstring(text).findall(f"{NAMESPACE}task")]


def _task(one: ET.Element) -> Task:
    found = {name: list(one.iter(NAMESPACE + name)) for name in ("process", "var", "prerequisite")}
    processes = []
    for each in found["process"]:
        (job,) = each.iter(f"{NAMESPACE}job")
        after = {
            dep.attrib["process"]: dep.get("status", "SUCCESS") for dep in each.iter(f"{NAMESPACE}after")
        }
        retries = int(each.get("autoRetryMaxAttempts", "0"))
        batch_options = job.get("batchOptions", "")
        processes.append(
            Process(each.attrib["name"], job.attrib["executable"], batch_options, after, retries)
        )
    return Task(
        one.attrib["name"],
        one.get("version", "1.0"),
        {var.attrib["name"]: (var.text or "").strip() for var in found["var"]},
        {each.attrib["name"]: each.attrib["type"] for each in found["prerequisite"]},
        tuple(processes),
    )

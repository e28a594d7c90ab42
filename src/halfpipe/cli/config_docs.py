"""The keys of the configuration for editors and people, from the model itself."""

import json
from collections.abc import Iterator, Mapping
from typing import Any

from halfpipe.config import model

Schema = Mapping[str, Any]
TYPES = {
    "string": "text",
    "integer": "whole number",
    "number": "number",
    "boolean": "true or false",
    "array": "list",
    "object": "keys with values",
    "null": "null",
}
LIMITS = {
    "minimum": "at least {:g}",
    "exclusiveMinimum": "more than {:g}",
    "maximum": "at most {:g}",
}
ROW = "| {} | {} | {} | {} |"


def schema() -> dict[str, Any]:
    """Return the JSON schema of a config file, by which an editor checks it and completes keys.

    No key of a file is required in it: a file holds what differs from the defaults and from the files before it.
    """
    found = model().json_schema()
    for part in (found, found["$defs"]["Paths"]):
        part.pop("required", None)
    return {"$schema": "https://json-schema.org/draft/2020-12/schema"} | found


def table() -> str:
    """Return all keys in Markdown: for each section a table of its keys, with type, default and meaning."""
    whole = model().json_schema()
    lines, of_sections = list[str](), list[str]()
    head = [ROW.format("key", "type", "default", "meaning"), ROW.format("---", "---", "---", "---")]
    for key, part in whole["properties"].items():
        section = _resolved(part, whole)
        if "properties" not in section:
            lines += _rows(key, part, whole)
            continue
        rows = [
            row
            for name, each in section["properties"].items()
            for row in _rows(f"{key}.{name}", each, whole, section)
        ]
        of_sections += ["", f"## {key}", "", _escaped(section["description"]), "", *head, *rows]
    return "\n".join([*head, *lines, *of_sections, ""])


def _resolved(part: Schema, whole: Schema) -> Schema:
    """Return what a part of a schema refers to, or itself."""
    found: Schema = whole["$defs"][part["$ref"].rpartition("/")[2]] if "$ref" in part else part
    return found


def _rows(key: str, part: Schema, whole: Schema, section: Schema | None = None) -> Iterator[str]:
    """Yield the row of a key, and of the keys of what a list holds."""
    required = section is not None and key.rpartition(".")[2] in section.get("required", ())
    default = "none: must be given" if required else f"`{json.dumps(part.get('default', {}))}`"
    yield ROW.format(f"`{key}`", _type(part, whole), default, _escaped(part["description"]))
    items = _resolved(part.get("items", {}), whole)
    for name, each in items.get("properties", {}).items():
        yield from _rows(f"{key}[].{name}", each, whole, items)


def _type(part: Schema, whole: Schema) -> str:
    """Say in words what a value may be."""
    part = _resolved(part, whole)
    if "anyOf" in part:
        return " or ".join(_type(each, whole) for each in part["anyOf"])
    if "enum" in part:
        return " or ".join(part["enum"])
    types = part["type"] if isinstance(part["type"], list) else [part["type"]]
    said = " or ".join(TYPES[each] for each in types)
    items = _resolved(part.get("items", {}), whole)
    if "enum" in items or items.get("type") == "string":
        said += f" of {_type(items, whole)}"
    limits = [words.format(part[key]) for key, words in LIMITS.items() if key in part]
    return ", ".join([said, *limits])


def _escaped(text: str) -> str:
    """Return text of the model as it may stand in a cell of Markdown: on one line, and as it is."""
    return " ".join(text.split()).replace("|", r"\|").replace("<", r"\<").replace("*", r"\*")

"""The table of all keys of the config, for the page that `make docs` makes of config/README.md."""

import json
from collections.abc import Iterator, Mapping
from typing import Any

from halfpipe.config import model

HEAD = ("| key | default | meaning |", "| --- | --- | --- |")


def table() -> Iterator[str]:
    """Yield all keys in lines of Markdown: for each section a table of its keys, with default and meaning.

    The keys of list entries of one type appear once.
    """
    whole = model(described=True).json_schema()
    seen = set[str]()
    defs = whole["$defs"]
    sections = {
        key: defs[part["$ref"].rpartition("/")[2]]
        for key, part in whole["properties"].items()
        if "$ref" in part
    }
    yield from HEAD
    yield from (_row("", key, whole) for key in whole["properties"] if key not in sections)
    for name, section in sections.items():
        yield from ("", f"**{name}**: {_escaped(section['description'])}", "", *HEAD)
        for key, part in section["properties"].items():
            yield _row(f"{name}.", key, section)
            kind = part.get("items", {}).get("$ref", "").rpartition("/")[2]
            items = {} if kind in seen else defs.get(kind, {})
            seen.add(kind)
            yield from (_row(f"{name}.{key}[].", each, items) for each in items.get("properties", ()))


def _row(of: str, key: str, section: Mapping[str, Any]) -> str:
    part = section["properties"][key]
    required = key in section.get("required", ())
    default = "must be given" if required else f"`{json.dumps(part.get('default', {}))}`"
    return f"| `{of}{key}` | {default} | {_escaped(part['description'])} |"


def _escaped(text: str) -> str:
    """Return a text in one line, for a cell of Markdown."""
    return " ".join(text.split()).replace("|", r"\|").replace("<", r"\<").replace("*", r"\*")

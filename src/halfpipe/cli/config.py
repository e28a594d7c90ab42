"""`halfpipe config`."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from typing import Any

import click
import yaml

from halfpipe.cli import printed
from halfpipe.cli.verbs import Site, Verb, as_json
from halfpipe.config import model

HEAD = ("| key | default | meaning |", "| --- | --- | --- |")


@click.command(
    "config",
    cls=Verb,
    at_work=False,
    examples=[
        ("halfpipe config", "what is in effect, with all defaults"),
        ("halfpipe config --schema > config.schema.json", "for an editor that checks YAML"),
        ("halfpipe config --table", "all keys with their meaning, in Markdown"),
    ],
    statuses={0: "good"},
)
@click.option("--schema", "wants_schema", is_flag=True, help="Print the JSON schema of a config file.")
@click.option(
    "--table", "wants_table", is_flag=True, help="Print all keys, defaults and meanings in Markdown."
)
@as_json
def command(site: Site, wants_schema: bool, wants_table: bool, as_json: bool) -> None:
    """Print the configuration as it is in effect, or describe its keys.

    It is what the config files say over the defaults, with absolute paths, as YAML: a config file itself.
    """
    if wants_schema:
        printed.as_json(**schema())
    elif wants_table:
        click.echo("\n".join(table()))
    else:
        if not as_json:
            site.say()
        settings = json.loads(json.dumps(asdict(site.settings), default=str))
        click.echo(
            json.dumps(settings, indent=1) if as_json else yaml.safe_dump(settings, sort_keys=False),
            nl=as_json,
        )


def schema() -> dict[str, Any]:
    """Return the JSON schema of a config file, by which an editor checks it and completes keys.

    No key of a file is required in it: a file holds what differs from the defaults and from the files before it.
    """
    found = model(described=True).json_schema()
    for part in (found, found["$defs"]["Paths"]):
        del part["required"]
    return {"$schema": "https://json-schema.org/draft/2020-12/schema"} | found


def table() -> Iterator[str]:
    """Yield all keys in lines of Markdown: for each section a table of its keys, with default and meaning."""
    whole = model(described=True).json_schema()
    defs = whole["$defs"]
    sections = {
        key: defs[part["$ref"].rpartition("/")[2]]
        for key, part in whole["properties"].items()
        if "$ref" in part
    }
    yield from HEAD
    yield from (_row("", key, whole) for key in whole["properties"] if key not in sections)
    for name, section in sections.items():
        yield from ("", f"## {name}", "", _escaped(section["description"]), "", *HEAD)
        for key, part in section["properties"].items():
            yield _row(f"{name}.", key, section)
            items = defs.get(part.get("items", {}).get("$ref", "").rpartition("/")[2], {})
            yield from (_row(f"{name}.{key}[].", each, items) for each in items.get("properties", ()))


def _row(of: str, key: str, section: Mapping[str, Any]) -> str:
    part = section["properties"][key]
    required = key in section.get("required", ())
    default = "must be given" if required else f"`{json.dumps(part.get('default', {}))}`"
    return f"| `{of}{key}` | {default} | {_escaped(part['description'])} |"


def _escaped(text: str) -> str:
    """Return text of the model as it may stand in a cell of Markdown: on one line, and as it is."""
    return " ".join(text.split()).replace("|", r"\|").replace("<", r"\<").replace("*", r"\*")

"""`halfpipe config`."""

import json
from dataclasses import asdict
from typing import Any

import click
import yaml

from halfpipe.cli import printed
from halfpipe.cli.verbs import Site, Verb, as_json
from halfpipe.config import model


@click.command(
    "config",
    cls=Verb,
    at_work=False,
    examples=[
        ("halfpipe config", "the settings in effect, with all defaults"),
        ("halfpipe config --schema > config.schema.json", "for an editor that checks YAML"),
    ],
    statuses={0: "good"},
)
@click.option("--schema", "wants_schema", is_flag=True, help="Print the JSON schema of a config file.")
@as_json
def command(site: Site, wants_schema: bool, as_json: bool) -> None:
    """Print the configuration in effect, or the schema of its keys.

    The output is YAML, with absolute paths and all defaults, and is itself a config file.
    """
    if wants_schema:
        printed.as_json(**schema())
    else:
        if not as_json:
            site.say()
        settings = json.loads(json.dumps(asdict(site.settings), default=str))
        click.echo(
            json.dumps(settings, indent=1) if as_json else yaml.safe_dump(settings, sort_keys=False),
            nl=as_json,
        )


def schema() -> dict[str, Any]:
    """Return the JSON schema of a config file, for editors.

    No key is required, because a file contains only what differs from the defaults and from earlier files.
    """
    found = model(described=True).json_schema()
    for part in (found, found["$defs"]["Paths"]):
        del part["required"]
    return {"$schema": "https://json-schema.org/draft/2020-12/schema"} | found

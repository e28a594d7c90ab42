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
        ("halfpipe config", "what is in effect, with all defaults"),
        ("halfpipe config --schema > config.schema.json", "for an editor that checks YAML"),
    ],
    statuses={0: "good"},
)
@click.option("--schema", "wants_schema", is_flag=True, help="Print the JSON schema of a config file.")
@as_json
def command(site: Site, wants_schema: bool, as_json: bool) -> None:
    """Print the configuration as it is in effect, or the schema of its keys.

    It is what the config files say over the defaults, with absolute paths, as YAML: a config file itself.
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
    """Return the JSON schema of a config file, by which an editor checks it and completes keys.

    No key of a file is required in it: a file holds what differs from the defaults and from the files before it.
    """
    found = model(described=True).json_schema()
    for part in (found, found["$defs"]["Paths"]):
        del part["required"]
    return {"$schema": "https://json-schema.org/draft/2020-12/schema"} | found

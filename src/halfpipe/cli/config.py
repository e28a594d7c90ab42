"""`halfpipe config`."""

import json
from dataclasses import asdict
from importlib.resources import files
from pathlib import Path

import click
import yaml

from halfpipe.cli.main import verbs_of_others
from halfpipe.cli.verbs import Site, Verb, as_json
from halfpipe.config import model
from halfpipe.files.json_files import Json

DOCUMENTS = Path(__file__).with_name("documents.json")  # the schemas of what verbs print


@click.command(
    "config",
    cls=Verb,
    at_work=False,
    examples=[
        ("halfpipe config", "the settings in effect, with all defaults"),
        ("halfpipe config --schema > config.schema.json", "for an editor that checks YAML"),
        ("halfpipe config --schema status", "what halfpipe status --format json prints"),
    ],
    statuses={0: "good"},
)
@click.option(
    "--schema",
    "schema_of",
    is_flag=False,
    flag_value="config",
    metavar="[DOCUMENT]",
    help="Print the JSON schema of a config file, or of what a verb prints with --format json.",
)
@as_json
def command(site: Site, schema_of: str | None, as_json: bool) -> None:
    """Print the configuration in effect, or the schema of its keys.

    The output is YAML, with absolute paths and all defaults, and is itself a config file.
    """
    if schema_of == "config":
        click.echo(json.dumps(schema(), indent=1))
    elif schema_of is not None:
        schemas = documents()
        known = schemas["$defs"]
        if schema_of not in known:
            raise click.UsageError(f"--schema: name one of config, {', '.join(known)}.")
        click.echo(json.dumps({**schemas, "$ref": f"#/$defs/{schema_of}"}, indent=1))
    else:
        if not as_json:
            site.say()
        settings = json.loads(json.dumps(asdict(site.settings), default=str))
        click.echo(
            json.dumps(settings, indent=1) if as_json else yaml.safe_dump(settings, sort_keys=False),
            nl=as_json,
        )


def documents() -> dict[str, Json]:
    """Return the schemas of what verbs print, with those in the ``documents.json`` of other packages with verbs."""
    found: dict[str, Json] = json.loads(DOCUMENTS.read_bytes())
    for package in sorted({verb.module.partition(".")[0] for verb in verbs_of_others().values()}):
        place = files(package) / DOCUMENTS.name
        if place.is_file():
            found["$defs"] |= json.loads(place.read_bytes())["$defs"]
    return found


def schema() -> dict[str, Json]:
    """Return the JSON schema of a config file, for editors.

    No key is required, because a file contains only what differs from the defaults and from earlier files.
    """
    found = model(described=True).json_schema()
    for part in (found, found["$defs"]["Paths"]):
        del part["required"]
    return {"$schema": "https://json-schema.org/draft/2020-12/schema"} | found

"""`halfpipe config`."""

import json
from dataclasses import asdict

import click
import yaml

from halfpipe.cli import config_docs, printed
from halfpipe.cli.verbs import Site, Verb, as_json


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
@click.option("--schema", is_flag=True, help="Print the JSON schema of a config file.")
@click.option("--table", is_flag=True, help="Print all keys with type, default and meaning, in Markdown.")
@as_json
def command(site: Site, schema: bool, table: bool, as_json: bool) -> None:
    """Print the configuration as it is in effect, or describe its keys.

    It is what the config files say over the defaults, with absolute paths, as YAML: a config file itself.
    """
    if schema:
        printed.as_json(**config_docs.schema())
    elif table:
        click.echo(config_docs.table(), nl=False)
    else:
        if not as_json:
            site.say()
        settings = json.loads(json.dumps(asdict(site.settings), default=str))
        click.echo(
            json.dumps(settings, indent=1) if as_json else yaml.safe_dump(settings, sort_keys=False),
            nl=as_json,
        )

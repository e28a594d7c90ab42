"""`halfpipe config`."""

import json
from dataclasses import asdict

import click
import yaml

from halfpipe.cli.verbs import Site, Verb, as_json


@click.command(
    "config",
    cls=Verb,
    at_work=False,
    examples=[("halfpipe config", "the settings in effect, with all defaults")],
    statuses={0: "good"},
)
@as_json
def command(site: Site, as_json: bool) -> None:
    """Print the configuration in effect.

    The output is YAML, with absolute paths and all defaults, and is itself a config file.
    """
    if not as_json:
        site.say()
    settings = json.loads(json.dumps(asdict(site.settings), default=str))
    click.echo(
        json.dumps(settings, indent=1) if as_json else yaml.safe_dump(settings, sort_keys=False), nl=as_json
    )

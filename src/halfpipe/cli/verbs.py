"""Common parts of verbs: options that select the site, arguments, and examples and exit statuses in the help."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.shell_completion import CompletionItem

from halfpipe.cli import completion, printed
from halfpipe.config import VARIABLE, Profile, find_profile, load, read_values, refuse_missing_places
from halfpipe.errors import ConfigError, IdError
from halfpipe.files import working_directory
from halfpipe.ids import DownlinkId, Downlinks, RunId
from halfpipe.operate.invocation import SnakemakeCall
from halfpipe.settings import Settings
from halfpipe.staging import stage_mark

if TYPE_CHECKING:
    from pandas import DataFrame

UNUSABLE = {2: "wrong command line or configuration: nothing was done"}


@dataclass
class Site:
    """The site that the command line selects, and its settings."""

    profile_name: str | None = None
    given_configfiles: tuple[Path, ...] = ()
    given_values: tuple[str, ...] = ()
    given_form: str = ""
    output: Path | None = None

    @cached_property
    def profile(self) -> Profile:
        """The profile; without one, an empty profile without a name."""
        return find_profile(self.profile_name) or Profile("", Path(), (), {}, {})

    @property
    def configfiles(self) -> tuple[Path, ...]:
        """The config files of the command line, otherwise those of the profile, as in Snakemake."""
        return self.given_configfiles or self.profile.configfiles

    @cached_property
    def settings(self) -> Settings:
        """The settings.

        Raises
        ------
        ConfigError
            If no site is selected, or its configuration is not valid.
        """
        values = read_values(self.given_values) or self.profile.config
        return load(self.configfiles, values, only_look=True)

    @property
    def work(self) -> Path:
        """`paths.work`."""
        return self.settings.paths.work

    def snakemake(self, cores: int | None = None) -> SnakemakeCall:
        """Return the call of Snakemake for the site, with `cores` of this host; None: as set in the profile."""
        words = [f"--profile={self.profile.file.absolute()}"] if self.profile.name else []
        if self.configfiles:
            words += ["--configfile", *(str(file.absolute()) for file in self.configfiles)]
        if self.given_values:
            words += ["--config", *self.given_values]
        content = self.profile.content
        is_remote = content.get("executor", "local") != "local"
        return SnakemakeCall(tuple(words), is_remote, cores or (None if is_remote else content.get("cores")))

    def __str__(self) -> str:
        name = self.profile.name
        by = f"profile {name}" if name else ", ".join(map(str, self.configfiles))
        simulated = ", SIMULATED data" if self.settings.is_simulated else ""
        return f"HalfPipe at {self.work} ({by or '--config'}){simulated}"

    def say(self, *, trouble: bool = False) -> None:
        """Print the working directory and the profile to standard error, and if `trouble`, a problem with the stage.

        The verb still shows what it can read.
        """
        click.echo(printed.tinted(str(self), dim=True), err=True)
        if trouble and (cause := stage_mark.trouble(self.settings)):
            printed.cause("site", cause, err=True)

    @cached_property
    def form(self) -> str:
        """The format of the rows that a verb prints, from `row_options`; one of `printed.FORMS`."""
        form = self.given_form or (self.output.suffix.removeprefix(".") if self.output else "table")
        if form not in printed.FORMS or (self.output and form == "table"):
            names = ", *.".join(printed.FORMS[1:])
            raise click.UsageError(f"--output: give a --format, or a file named *.{names}.")
        if form == "parquet" and self.output is None:
            raise click.UsageError("--format parquet: name a file (--output).")
        return form

    def listed(self, name: str, found: "printed.Rows | DataFrame", foot: str, **how: Any) -> None:
        """Print rows with `printed.listed` and its options `how`; JSON output also has the working directory."""
        how["document"] = {"work": self.work, **how.get("document", {})}
        printed.listed(self.form, self.output, name, found, foot, simulated=self.settings.is_simulated, **how)

    def check(self, *, only_look: bool = True) -> None:
        """Make sure that the working directory exists, because an empty result would be misleading.

        Raises
        ------
        ConfigError
            If the directory does not exist or has another format. Unless `only_look`, also if a place of another
            system is missing, or the stage is not mounted or belongs to another working directory.
        """
        if not self.work.is_dir():
            raise ConfigError(
                f"{self.work}: no such directory, so nothing was processed there. Check paths.work in "
                f"{', '.join(map(str, self.configfiles)) or '--config'}, and that its file system is mounted. If the "
                f"site is new: mkdir -p -m 2775 {self.work}"
            )
        working_directory.refuse_other(self.work)
        if not only_look:
            refuse_missing_places(self.settings)
            stage_mark.refuse(self.settings)


def _remember(ctx: click.Context, option: click.Parameter, value: object) -> None:
    """Keep an option in the `Site`. Those that select the site may be given before or after the verb."""
    if value and option.name:
        setattr(ctx.find_root().ensure_object(Site), option.name, value)


def site_options(*, hidden: bool) -> list[click.Parameter]:
    """Return the options that select the site: every verb accepts them, and `halfpipe --help` shows them."""
    site_option = partial(click.Option, expose_value=False, callback=_remember, hidden=hidden)
    return [
        site_option(
            ["--profile", "profile_name"],
            metavar="NAME_OR_DIR",
            type=click.Path(),
            shell_complete=completion.completes(completion.profiles),
            help=f"Profile of the site, as for snakemake. Default: ${VARIABLE}.",
        ),
        site_option(
            ["--configfile", "given_configfiles"],
            metavar="FILE",
            type=click.Path(path_type=Path),
            multiple=True,
            help="Config file instead of the profile's. May be repeated; later ones override earlier ones.",
        ),
        site_option(
            ["--config", "given_values"],
            metavar="KEY=VALUE",
            multiple=True,
            help="One value that overrides the files, as merge.min_epus=1. May be repeated.",
        ),
    ]


# Acting verbs share their words: --do acts where looking comes first, --undo undoes, --settle records an outcome.
FORMER = {
    "--remove": "--do",
    "--resume": "--undo",
    "--back": "--undo",
    "--started": "--settle started",
    "--not-started": "--settle not-started",
}


class Verb(click.Command):
    """A verb: its help ends with examples and exit statuses, and its function gets the `site`.

    With `at_work` the working directory must exist, and its name is printed. Without `only_look` the verb is also
    refused if the stage or another place is missing. The function returns the exit status, None for 0.
    """

    def __init__(
        self,
        *args: Any,
        examples: Sequence[tuple[str, str]] = (),
        statuses: Mapping[int, str] | None = None,
        at_work: bool = True,
        only_look: bool = False,
        **more: Any,
    ) -> None:
        super().__init__(*args, **more)
        self.examples = examples
        self.statuses = {**UNUSABLE, **(statuses or {})}
        self.at_work = at_work
        self.only_look = only_look
        self.params += site_options(hidden=True)

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Read the command line; an option's former name is refused with its present one."""
        try:
            return super().parse_args(ctx, args)
        except click.NoSuchOption as error:
            if error.option_name not in FORMER:
                raise
            raise click.UsageError(f"{error.option_name} is {FORMER[error.option_name]} now.", ctx) from error

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        """Write examples and exit statuses."""
        with formatter.section("Examples"):
            formatter.write_dl(self.examples, col_max=60)
        with formatter.section("Exit status"):
            formatter.write_dl([(str(number), meaning) for number, meaning in sorted(self.statuses.items())])
        formatter.write_paragraph()
        formatter.write_text("To select the site: --profile, --configfile and --config; see halfpipe --help.")

    def invoke(self, ctx: click.Context) -> Any:
        """Find the site and run the verb."""
        ctx.params["site"] = site = ctx.find_root().ensure_object(Site)
        is_table = site.form == "table"  # refuses wrong options before the verb acts
        if self.at_work:
            site.check(only_look=self.only_look)
            if is_table and not ctx.params.get("as_json"):
                site.say()
        for name, value in ctx.params.items():
            if isinstance(value, Downlinks):
                raise click.UsageError(f"{value}: name a single downlink here, as 230401001.")
            if isinstance(value, tuple) and not all(type(one) is str for one in value):
                ctx.params[name] = tuple(_expanded(site, value))
        return super().invoke(ctx)


def _expanded(site: Site, values: Iterable[object]) -> Iterable[object]:
    """Return the values without repeats; each range is replaced by its downlinks."""
    from halfpipe.plan.plan import expand  # noqa: PLC0415 - only where a range is named

    every = (expand(site.settings, [one]) if isinstance(one, Downlinks) else [one] for one in values)
    return dict.fromkeys(value for each in every for value in each)


class Named(click.ParamType[Any]):
    """An argument that the function `read` parses."""

    def __init__(self, name: str, read: Callable[[str], Any], *completed: completion.Words) -> None:
        self.name = name
        self._read = read
        self._complete = completion.completes(*completed)

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        """Return the words that a shell offers."""
        return self._complete(ctx, param, incomplete)

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Read the argument."""
        try:
            return self._read(value) if type(value) is str else value
        except IdError as error:
            self.fail(f"{error}.", param, ctx)


def read_downlinks(text: str) -> DownlinkId | Downlinks:
    """Read an argument that names downlinks: ``230401001``, a range, or either as a target, ``dl=230401001``."""
    word = text.removeprefix("dl=")
    return DownlinkId(word) if DownlinkId.matches(word) else Downlinks(word)


def read_either(text: str) -> RunId | DownlinkId | Downlinks:
    """Read an argument that names a run, a downlink, or several downlinks."""
    if text.startswith("dl=") or Downlinks.matches(text):
        return read_downlinks(text)
    try:
        return RunId.parse(text)
    except IdError as error:
        raise IdError(
            f"{text!r} is neither a run, as in 2c2e5787 or r0741234567, nor a downlink, as in 230401001"
        ) from error


DOWNLINK = Named("downlink", read_downlinks, completion.downlinks)
RUN = Named("run", RunId.parse, completion.runs)

cores = click.option(
    "--cores",
    type=click.IntRange(1),
    metavar="N",
    help="Cores for snakemake; default: those of the profile, or all.",
)


def reason_given(reason: str | None) -> str:
    """Return the text of ``--reason``; refuse an empty one, because the next person needs it."""
    if not (reason or "").strip():
        raise click.UsageError('Give the reason, for the next person: --reason "TEXT".')
    return reason or ""


kept_option = partial(click.option, expose_value=False, callback=_remember)


def row_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add options for the format and the file of rows to a verb, which prints them by `Site.listed`."""
    text = "Format of the rows; else by the suffix of --output, or a table."
    with_form = kept_option("--format", "given_form", type=click.Choice(printed.FORMS), help=text)(function)
    path = click.Path(path_type=Path, dir_okay=False)
    return kept_option("-o", "--output", type=path, metavar="FILE", help="Write the rows to a file.")(
        with_form
    )


as_json = click.option(
    "--format",
    "as_json",
    type=click.Choice(("text", "json")),
    default="text",
    callback=lambda _context, _option, form: form == "json",
    help="Print text, or JSON for programs.",
)
SEVERAL = "As 230401001 or dl=230401001; several as 230401001..230401018, 2023-04 or 2023-04-01"
downlinks = click.argument(
    "downlinks", nargs=-1, type=DOWNLINK, metavar="[DL]...", help=f"{SEVERAL}; none: all."
)

"""Steps of stories in which somebody does what must be refused or told: each is undone before the next step.

Foreign files in the stage, a stage that is not mounted, another working directory, an older one put back, staged files
that were harmed before the submission, a decoder that writes nothing, level-0 that was still being copied.
"""

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from halfpipe import paths
from tests.support.stories.books import WrongError
from tests.support.stories.steps import DL, PLACE, Arguments, Story, step
from tests.support.workflow import Site

Files = dict[str, bytes]


def files_in(root: Path) -> Files:
    """Return all files below a directory, with their bytes."""
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def is_used(story: Story) -> bool:
    """Tell whether the site has handed something off, so that the stage has its mark."""
    return (story.world.site.stage / paths.stage_mark()).exists()


@contextmanager
def untouched(story: Story, what: str) -> Iterator[None]:
    """See that neither stage nor Level-1 is changed by what goes on."""
    stage, streams = story.world.site.stage, story.world.streams
    before = files_in(stage), streams.exists() and streams.read_bytes()
    yield
    if (files_in(stage), streams.exists() and streams.read_bytes()) != before:
        raise WrongError(f"touched, {what}", f"{story.said[-2000:]}")


def refused(story: Story, what: str, site: Site, *words: str) -> None:
    """Give a command that has to end with a status other than 0 and change nothing outside."""
    with untouched(story, what):
        ended = story.heard(site.snakemake(*words))
    if not ended.status:
        raise WrongError(f"not refused, {what}", f"{' '.join(words)}: {ended.said[-2000:]}")


def needs_action(story: Story, what: str, dl: str | None = None, *options: str) -> None:
    """Ask status, which has to need action, of the downlink if one is named."""
    ended = story.heard(story.world.site.halfpipe("status", *([dl] if dl else []), *options, "--json"))
    rows = json.loads(ended.said).get("downlinks", []) if ended.said.startswith("{") else []
    if not ended.status or (dl and rows and rows[0]["verdict"] != "action"):
        raise WrongError(f"good, {what}", ended.said[-2000:])


def may_be_submitted(story: Story, dl: str) -> bool:
    """Tell whether nothing but the trouble keeps a downlink from Level-1."""
    of, world = story.books.of[dl], story.world
    chunks = [chunk for chunk in world.chunks[dl] if world.source(chunk).exists()]
    return (
        story.books.has_receipt(dl)
        and all(world.staged_version(chunk) for chunk in chunks)  # else it is handed off anew first
        and not (of.submitted or of.open or of.wiped or of.gone or of.receipt_edited)
        and bool(story.world.staged(dl))
    )


@step(4, DL, ("file", "directory", "beside"))
def foreign(story: Story, given: Arguments) -> bool:
    """Another system leaves something in the stage: it is not submitted, and never removed."""
    dl = given.dl()
    home = story.world.site.stage / dl
    if not may_be_submitted(story, dl):
        return False
    run = next(iter(story.world.staged(dl)))
    name = {"file": f"{run}/{run}-e{7:020d}.evt", "directory": "r0999999999/other.evt", "beside": "other.txt"}
    place = home / name[given.words[1]]
    place.parent.mkdir(exist_ok=True)
    place.write_bytes(b"of another system")
    refused(story, "foreign files", story.world.site, f"submit={dl}")
    with untouched(story, "foreign files"):
        needs_action(story, "foreign files", dl, "--check")
    place.unlink()
    if given.words[1] == "directory":
        place.parent.rmdir()
    return True


@step(4, DL, ("cut", "flipped", "removed"), ("event", "text", "token"))
def harmed(story: Story, given: Arguments) -> bool:
    """Something happens to a staged file before it is submitted."""
    dl, how, what = given.dl(), given.words[1], given.words[2]
    stage = story.world.site.stage
    if not may_be_submitted(story, dl):
        return False
    run, files = next(iter(story.world.staged(dl).items()))
    token = stage / "chunktokens" / run / Path(files[0].name).stem
    path = {
        "event": stage / dl / run / files[0].name,
        "text": stage / dl / f"delivered_events_{dl}.txt",
        "token": token,
    }[what]
    if not path.exists():
        return False
    content = path.read_bytes()
    if what == "token" or how == "removed":
        path.unlink()
    elif how == "cut" and content:
        path.write_bytes(content[:-1])
    elif content:
        path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    if path.exists() and path.read_bytes() == content:
        return False
    refused(story, f"{what} {how}", story.world.site, f"submit={dl}")
    path.write_bytes(content)
    return True


@step(3, DL, ("process", "submit"))
def not_mounted(story: Story, given: Arguments) -> bool:
    """The stage's file system is not there: an empty directory is."""
    dl, stage = given.dl(), story.world.site.stage
    if not is_used(story):
        return False
    aside = stage.with_name("mounted")
    stage.rename(aside)
    stage.mkdir()
    words = [f"submit={dl}"] if given.words[1] == "submit" else [f"dl={dl}", "-R", "deliver_run"]
    refused(story, "stage not mounted", story.world.site, *words)
    needs_action(story, "stage not mounted")
    stage.rmdir()
    aside.rename(stage)
    return True


@step(3, DL)
def two_systems(story: Story, given: Arguments) -> bool:
    """Another working directory is set up for the same stage."""
    site = story.world.site
    if not is_used(story):
        return False
    home = story.world.home / "other"
    other = Site(home, json.loads(json.dumps(site.config)))
    other.configure(paths={**site.config["paths"], "work": str(home / "work")})
    refused(story, "two systems", other, f"dl={given.dl()}")
    shutil.rmtree(home)
    return True


@step(4)
def backup(story: Story, given: Arguments) -> bool:
    """The working directory is backed up."""
    work, kept = story.world.site.work, story.world.home / "backup"
    if not is_used(story) or kept.exists():
        return False
    shutil.copytree(work, kept, symlinks=True)
    (story.world.home / "backup-mark").write_text(_mark(story))
    return True


def _mark(story: Story) -> str:
    """Return what says how far the stage is: the names of its marks."""
    return " ".join(sorted(path.name for path in (story.world.site.stage / paths.stage_mark()).iterdir()))


@step(6, DL, ("process", "submit"))
def restored(story: Story, given: Arguments) -> bool:
    """The backup is put back after more was handed off: nothing is done until the newer one is there again."""
    work, home, dl = story.world.site.work, story.world.home, given.dl()
    if not (home / "backup").exists() or (home / "backup-mark").read_text() == _mark(story):
        return False
    work.rename(home / "newer")
    (home / "backup").rename(work)
    words = [f"submit={dl}"] if given.words[1] == "submit" else [f"dl={dl}", "-F"]
    refused(story, "an older working directory", story.world.site, *words)
    needs_action(story, "an older working directory")
    work.rename(home / "backup")
    (home / "newer").rename(work)
    return True


@step(3, DL)
def silent(story: Story, given: Arguments) -> bool:
    """The decoder ends well and writes nothing, though RetDefs announce data; later it works."""
    dl, site = given.dl(), story.world.site
    there = [chunk for chunk in story.world.chunks[dl] if story.world.source(chunk).exists()]
    if not any(chunk.datagrams and not story.books.would_bring(chunk)[1] for chunk in there):
        return False  # of what is missing an hour all says so already
    before = {dl: story.books.stamps(dl)}
    decoder = dict(site.config.get("decoder", {}))
    site.configure(decoder={"command": "true"})
    ended = story.heard(site.snakemake(f"dl={dl}", "-F"))
    if not ended.status:
        raise WrongError("not refused, a silent decoder", ended.said[-2000:])
    needs_action(story, "a silent decoder", dl)
    site.config["decoder"] = decoder
    site.configure()
    story.books.processed([dl], before)
    story.invoke(dl, f"dl={dl}", "-F")
    return True


@step(3, DL, PLACE)
def growing(story: Story, given: Arguments) -> bool:
    """An hour of level-0 is decoded while it is still being copied, and is whole later."""
    dl, world = given.dl(), story.world
    hours = sorted(given.chunk().hours_of("plain"))
    files = world.files_of(hours[-1], world.archive)
    if not files or not world.source(given.chunk()).exists():
        return False
    content = {path: path.read_bytes() for path in files}
    for path in files:
        path.write_bytes(b"")
    before = story.books.stamps(dl)
    story.invoke(dl, f"dl={dl}", "-F")
    decoded = story.books.voucher(given.chunk())
    again = story.books.stamps(dl).get(decoded) not in {None, before.get(decoded)}
    for path, whole in content.items():
        path.write_bytes(whole)
    if again:
        needs_action(story, "level-0 that grew", dl)
    story.invoke(dl, f"dl={dl}", "-F")
    return True

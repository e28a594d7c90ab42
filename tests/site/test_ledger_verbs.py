"""`halfpipe ledger`: what people do with the ledger of a site whose downlinks were really processed."""

import json
import shlex
from pathlib import Path

from halfpipe import paths
from halfpipe.config import load
from halfpipe.ids import RunId
from halfpipe.ledger.database import Ledger
from tests.support.golden_cases import GOLDEN, read_case
from tests.support.in_process import ROOT
from tests.support.ledger_database import Database
from tests.support.ledger_files import content
from tests.support.private_postgresql import PASSWORD
from tests.support.verbs import halfpipe
from tests.support.workflow import Ended, Site

STAND_IN = ROOT / "tests" / "support" / "moot_stand_in.py"
RUN, OTHER = RunId("2c2e5787"), RunId("2c2e8000")


def give(site: Site, *words: str) -> Ended:
    """Return the end of a verb, what it printed and its error, without what the command of MOOT prints."""
    ended = halfpipe("ledger", *words, configfile=site.configfile)
    assert PASSWORD not in ended.output
    _, error, why = ended.stderr.partition("error: ")
    return Ended(ended.exit_code, ended.stdout + error + why)


def test_loaded_compared_taken_out_and_made_anew(database: Database, tmp_path: Path) -> None:
    case = read_case(GOLDEN / "split2")
    first, second = case.downlinks
    site = Site(tmp_path)
    site.replay(case.directory / "in")
    site.add_retdefs(case.directory / "in", first, second)
    where = {
        "url": database.url,
        "password_file": str(database.password_file) if database.password_file else None,
    }
    site.configure(ledger=where, moot={"update": shlex.join(["python", str(STAND_IN), str(tmp_path)])})
    name = database.ledger().name
    site.by_hand(first)
    site.by_hand(second)

    assert (
        give(site, "upgrade").good().said == f"{name}: the tables were of version none, and are up to date\n"
    )
    ended = give(site, "check")
    assert ended.status == 1
    assert f"downlink {first}: " in ended.said
    said = give(site, "load", f"dl={first}", second).good().said
    assert said == f"downlink {first}: loaded into the ledger\ndownlink {second}: loaded into the ledger\n"
    assert (site.work / paths.loaded(first)).exists()
    assert give(site, "check").good().said == f"0 differences between {name} and {site.work}\n"
    before = content(Ledger.of(load([site.configfile])))

    unheard = "the MOOT database lacks 1 run: halfpipe ledger moot\n"
    said = give(site, "remove", first).good().said
    assert said == f"downlink {first}: taken out of the ledger, with 1 run\n{unheard}"
    assert not (site.work / paths.loaded(first)).exists()
    ended = give(site, "check", second)
    assert ended.status == 1
    behind, pending, last = ended.said.splitlines()
    assert behind.startswith(
        f"run {RUN} ({RUN.l1}): ledger is behind (status InProgress, in the files Complete"
    )
    assert pending == unheard.strip()
    assert last == f"1 difference between {name} and {site.work}"
    found = json.loads(halfpipe("ledger", "check", second, "--json", configfile=site.configfile).stdout)
    assert found["moot_has_not_heard_of"] == [RUN]
    assert found["differences"][0]["behind"] == "ledger is behind"

    assert give(site, "rebuild").good().said == f"2 downlinks in {name}\n{unheard}"
    assert content(Ledger.of(load([site.configfile]))) == before
    said = give(site, "refresh", RUN.l1, OTHER).good().said
    assert said.startswith(
        f"run {RUN} ({RUN.l1}): Complete\nrun {OTHER} ({OTHER.l1}): not in the ledger, because no downlink "
    )
    assert give(site, "moot").good().said == "the MOOT database received 1 run, 0 left\n"
    assert give(site, "moot").good().said == "the MOOT database received 0 runs, 0 left\n"
    (tmp_path / "down").write_text("99")
    give(site, "remove", second).good()
    ended = give(site, "moot")
    assert ended.status == 1
    assert ended.said.endswith("the MOOT database received 0 runs, 1 left\n")


def test_what_the_config_has_not_is_told(tmp_path: Path) -> None:
    site = Site(tmp_path)
    site.work.mkdir()
    ended = give(site, "moot")
    assert (ended.status, ended.said) == (
        2, "error: moot.update is null: the MOOT database cannot be notified. Set it in the config.\n"
    )  # fmt: skip
    site.configure(ledger={"url": None})
    for words in (["check"], ["load", "240601001"], ["rebuild"], ["remove", "240601001"], ["upgrade"]):
        ended = give(site, *words)
        assert ended.status == 2, words
        assert ended.said.startswith("error: ledger.url is null: there is no ledger.")


def test_a_ledger_that_cannot_be_reached_is_told(tmp_path: Path) -> None:
    site = Site(tmp_path)
    site.work.mkdir()
    site.configure(ledger={"url": f"sqlite:///{tmp_path}/no/such/directory/ledger.sqlite"})
    for verb, said in (("check", "there is no ledger "), ("upgrade", "unable to open database file")):
        ended = give(site, verb)
        assert ended.status == 1
        assert said in ended.said

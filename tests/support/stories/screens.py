"""What screens say after a step: the numbers are those of the books, and none says that all is well if it is not."""

import json
import re
from collections import Counter
from typing import Any

from halfpipe import paths
from halfpipe.decisions import What
from halfpipe.ids import RunId
from tests.support.stories.books import Books, Where
from tests.support.stories.world import World

WAITS = Where.WAITING, Where.DUE, Where.REFUSED  # what a person calls waiting
REASON = "a story"  # of all decisions
HEADLINE = re.compile(
    r"^run ([0-9a-f]{8}), .*: ([0-9,]+) events? delivered, ([0-9,]+) waits?, ([0-9,]+) late", re.MULTILINE
)
OPEN_RUN = re.compile(
    r"<tr><th><a [^>]*>([0-9a-f]{8})</a>(?:<td>[^<]*){4}<td class=.r.>([0-9,]+|not known)( at the last merge)?<td"
)


def check(world: World, books: Books) -> None:
    """Hold the screens against the books."""
    where = {run: Counter(books.where(run).values()) for run in books.runs}
    rows = _status(world, books)
    for dl, row in rows.items():
        books.check_verdict(dl, row)
    _missing(books, rows, where)
    _decided(world, books, rows)
    _waiting(world, books, rows, where)
    _explained(world, books, where)
    _accounts(world, books, where)
    _shown(world, books)
    _receipts(world, books)


def _status(world: World, books: Books) -> dict[str, dict[str, Any]]:
    ended = world.site.halfpipe("status", *world.downlinks, "--format", "json")
    rows = {row["dl"]: row for row in json.loads(ended.out)["downlinks"]}
    assert rows.keys() == set(world.downlinks)
    needs_action = any(row["verdict"] == "action" for row in rows.values())
    assert ended.status == 1 or not needs_action
    for dl, row in rows.items():
        delivered = sum(len(books.last(run, dl).keys) for run in books.runs)
        if row["handoff"] is not None and row["events"] != delivered:
            books.findings.append(f"status: {dl} delivered {row['events']}, the books: {delivered}")
    return rows


def _missing(books: Books, rows: dict[str, dict[str, Any]], where: dict[str, Counter[Where]]) -> None:
    """Look whether somebody is told of events that nobody is going to deliver."""
    for run, counted in where.items():
        of = [rows[dl] for dl in books.brought[run]] + [rows[dl] for dl in books.recorded[run]]
        told = any(row["verdict"] == "action" or row["state"] == "in progress" for row in of)
        if not books.readable(run):  # then nobody can tell which events these are, and a note says so
            told |= any(_is_old(cause) for row in of for cause in row["causes"])
        lost = any(books.is_lost(What.LATE, f"{dl}/{run}", counted[Where.LATE]) for dl in books.of)
        for kind in (Where.LATE, Where.CLOSED):
            if counted[kind] and not told and not (kind is Where.LATE and lost):
                books.findings.append(
                    f"run {run}: {counted[kind]} events {kind}, and no action: {_codes(of)}"
                )
        if counted[Where.DUE] and all(row["verdict"] == "good" for row in of):
            books.findings.append(f"run {run}: {counted[Where.DUE]} events due, and all is good")


def _decided(world: World, books: Books, rows: dict[str, dict[str, Any]]) -> None:
    """Look whether each decision is listed, and shown with its reason wherever something is lost by it."""
    if not world.site.work.is_dir():
        return
    listed = {(one["what"], one["subject"]): one for one in world.site.told("accept")["decisions"]}
    expected: dict[tuple[str, str], int | None] = {(what, of): n for (what, of), n in books.decided.items()}
    expected |= {(What.LEFT_OUT, subject_of(voucher)): None for voucher in books.ignored}
    expected |= {(What.ABANDONED, run): None for run in books.abandoned}
    said = {key: one["number"] for key, one in listed.items() if key[0] != What.SHRUNK}
    if said != expected:
        books.findings.append(f"accept lists {said}, the books: {expected}")
    for (what, subject), number in books.decided.items():
        dl, covers = subject.partition("/")[0], listed[what, subject]["covers"]
        done, _, of = covers.partition(" of ")
        if not of or what == What.SHRUNK:
            continue
        texts = [cause["text"] for cause in rows[dl]["causes"] if cause["verdict"] == "note"]
        told = any(f": {REASON} (" in text for text in texts)
        needs_action = rows[dl]["verdict"] == "action" or rows[dl]["state"] == "in progress"
        if int(done) == int(of) <= number and not told and rows[dl]["state"] != "in progress":
            books.findings.append(
                f"{what} of {subject} covers {covers}, and no note of {dl} says so: {texts}"
            )
        if int(done) < int(of) and not needs_action:
            books.findings.append(f"{what} of {subject} covers {covers}, and nothing needs action")


def subject_of(voucher: str) -> str:
    """Return what a decision about a chunk is about."""
    return voucher.replace("/chunks/", "/").removesuffix(".json")


def _is_old(cause: dict[str, Any]) -> bool:
    """Tell whether a cause says that the numbers of a run are those of its last merge, or not known."""
    return bool(cause["code"] == "books" and cause["verdict"] == "note")


def _codes(rows: list[dict[str, Any]]) -> str:
    return str({row["dl"]: (row["state"], [cause["code"] for cause in row["causes"]]) for row in rows})


def _waiting(
    world: World, books: Books, rows: dict[str, dict[str, Any]], where: dict[str, Counter[Where]]
) -> None:
    expected = {run: sum(counted[kind] for kind in WAITS) for run, counted in where.items()}
    unread = [run for run in expected if not books.readable(run)]
    said = {dl: row["waiting"] for dl, row in rows.items()}
    is_old = any(_is_old(cause) for row in rows.values() for cause in row["causes"])
    is_said = is_old if unread else None not in said.values()
    if sum(filter(None, said.values())) != sum(expected.values()) and not (unread and is_said):
        books.findings.append(f"status: {said} wait, the books: {expected}, unread {unread}")
    if not world.site.work.is_dir():
        return
    home = world.home / "board"
    ended = world.site.halfpipe("board", "-o", home, "--config", "board.days=100000")
    needs_action = any(row["verdict"] == "action" for row in rows.values())
    assert ended.status == 1 or not needs_action, ended.said
    page = (home / paths.BOARD_RUNS).read_text()
    board = {run: (number.replace(",", ""), bool(old)) for run, number, old in OPEN_RUN.findall(page)}
    shown = {run: (*board.get(run, ("0", False)), number) for run, number in expected.items()}
    for dl, row in rows.items():
        page = (home / paths.board_page(dl)).read_text()
        lost = [cause["text"] for cause in row["causes"] if f": {REASON} (" in cause["text"]]
        if lost and f": {REASON} (" not in page:
            books.findings.append(f"board, {dl}: not shown is {lost}")
    wrong = {
        run: (text, number)
        for run, (text, old, number) in shown.items()
        if text != str(number)
        and not (run in unread and (text == "not known" or (old and (text != "0" or not number))))
    }
    if wrong:
        books.findings.append(f"board, and the books: {wrong}, unread {unread}")


def _accounts(world: World, books: Books, where: dict[str, Counter[Where]]) -> None:
    """Hold the accounts of `show --books` against the books, each of them."""
    merged = [
        run
        for run in books.runs
        if books.readable(run)
        and any((world.site.work / paths.manifest(RunId(run), dl)).exists() for dl in books.brought[run])
    ]
    if not merged:
        return
    ended = world.site.halfpipe("show", "--books", *merged, "--format", "json")
    for table in json.loads(ended.out)["shown"]:
        for account in table["accounts"]:
            run = account["run"]
            delivered = books.delivered(run)
            expected = {str(kind): where[run][kind] for kind in Where if kind is not Where.DELIVERED}
            expected |= {"delivered": delivered, "known": delivered + sum(expected.values()), "lost": 0}
            wrong = {key: (account[key], n) for key, n in expected.items() if account[key] != n}
            if wrong:
                books.findings.append(f"show --books, run {run}, and the books: {wrong}")
        if table["findings"]:
            books.findings.append(f"show --books {table['what']}: {table['findings']}")


def _explained(world: World, books: Books, where: dict[str, Counter[Where]]) -> None:
    runs = [
        run
        for run in books.runs
        if any(books.keys(run, dl) for dl in books.brought[run]) and books.readable(run)
    ]
    if not runs:
        return
    ended = world.site.halfpipe("explain", *runs, "--format", "json")
    assert ended.status in {0, 1}, ended.said
    said = {run: Counter[Where]() for run in runs}
    for group in json.loads(ended.out)["groups"]:
        said[group["run"]][Where(group["kind"])] += group["events"]
    for run in runs:
        expected = Counter[Where]({kind: n for kind, n in where[run].items() if kind is not Where.DELIVERED})
        if said[run] != expected:
            books.findings.append(f"explain, run {run}: {dict(said[run])}, the books: {dict(expected)}")
    for run, delivered, waits, late in HEADLINE.findall(world.site.halfpipe("explain", *runs).out):
        headline = tuple(int(number.replace(",", "")) for number in (delivered, waits, late))
        numbers = (books.delivered(run), sum(where[run][kind] for kind in WAITS), where[run][Where.LATE])
        if headline != numbers:
            books.findings.append(f"explain, run {run}: {headline}, the books: {numbers}")
    lacking = sum(n for run in runs for kind, n in where[run].items() if kind is not Where.DELIVERED)
    if lacking and not ended.status:
        books.findings.append(f"explain: all is delivered, the books: {lacking} are not")


def _shown(world: World, books: Books) -> None:
    runs = [run for run in books.runs if any(books.recorded[run].values())]
    if not runs:
        return
    for shown in world.site.told("show", *runs)["shown"]:
        said = {part["downlink"]: part["events"] or 0 for part in shown["parts"]}
        run = shown["run"]
        expected = {dl: len(deliveries[-1].keys) for dl, deliveries in books.recorded[run].items()}
        wrong = {dl: (said.get(dl, 0), n) for dl, n in expected.items() if said.get(dl, 0) != n}
        if wrong:
            books.findings.append(f"show, run {run}, and the books: {wrong}")


def _receipts(world: World, books: Books) -> None:
    for dl in world.downlinks:
        for run in world.site.receipt(dl).runs if world.site.has_receipt(dl) else ():
            found = run.delivery.books
            if found.lost:
                books.findings.append(
                    f"receipt of {dl}, run {run.run}: {found.parts} of {found.known} events"
                )

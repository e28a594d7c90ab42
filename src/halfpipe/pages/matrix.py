"""The matrix of the board: a row a downlink, or many with equal notes, and a cell a phase."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from halfpipe.causes import Cause, Verdict
from halfpipe.ids import DownlinkId
from halfpipe.status.account import PHASES, Account

SIGNS = {Verdict.ACTION: "✗", Verdict.NOTE: "!", Verdict.GOOD: ""}
OF_RULE = {
    "decode_chunk": "decoded",
    "deliver_run": "staged",
    "receipt": "staged",
    "ledger": "ledger",
    "submit": "submitted",
}
# How the codes of a phase's causes begin. All others are of the first phase that is not done.
OF_CODE: Mapping[str, tuple[str, ...]] = {
    "RetDefs": ("retdef", "waits-retdef", "settling", "search-path"),
    "level-0": ("level0",),
    "decoded": ("events-missing", "decoder", "chunks-"),
    "staged": (
        *("run-", "merged-", "late-events", "no-attitude", "shrunk-", "closed-", "stage-", "file-"),
        *("datagrams-", "delivery-", "deliveries-", "receipt-", "record-", "manifest-", "events-unaccounted"),
    ),
    "ledger": ("ledger",),
    "submitted": ("submission", "not-submitted", "handoff-not", "written-for"),
    "taken": ("not-taken", "token-"),
}


@dataclass(frozen=True)
class Cell:
    """How far a phase is: `done` of `most`, of no downlink if that is 0; and its worst verdict."""

    verdict: Verdict
    done: int
    most: int

    def __str__(self) -> str:
        """Say it with a sign: a colour alone tells not everybody."""
        part = f"{self.done}/{self.most}" if 0 < self.done < self.most else ""
        plain = "–" if not self.most else "·" if not self.done else "✓"
        return f"{SIGNS[self.verdict]} {part}".strip() or plain


def phase_of(cause: Cause, one: Account) -> str:
    """Return the phase that a cause of an account is of."""
    rule, _, _ = cause.failed.partition(" ")
    if rule in OF_RULE:
        return OF_RULE[rule]
    undone = next((name for name, (done, most) in one.phases.items() if done < most), PHASES[-1])
    return next((name for name, codes in OF_CODE.items() if cause.code.startswith(codes)), undone)


def cells(one: Account) -> list[Cell]:
    """Return the cells of a downlink."""
    worst = {phase_of(cause, one): cause.verdict for cause in reversed(one.causes)}
    return [Cell(worst.get(name, Verdict.GOOD), *one.phases.get(name, (0, 0))) for name in PHASES]


@dataclass(frozen=True)
class Row:
    """A row: one downlink, or all with the same notes; then a cell has how many are done, of those with the phase."""

    accounts: Sequence[Account]

    @property
    def first(self) -> Account:
        """The newest one, whose cause stands there for all."""
        return self.accounts[0]

    @property
    def state(self) -> str:
        """How far it is, or they are, if that is the same: what failed, and who is at work, stands elsewhere."""
        states = {one.state for one in self.accounts}
        words = ("taken", "failed", "in work")
        return next((w for w in words if self.first.state.startswith(w)), self.first.state) * (
            len(states) == 1
        )

    @property
    def cells(self) -> list[Cell]:
        """Its cells."""
        if len(self.accounts) == 1:
            return cells(self.first)
        several = zip(*(cells(one) for one in self.accounts), strict=True)
        return [
            Cell(
                Verdict.NOTE if any(one.verdict is Verdict.NOTE for one in column) else Verdict.GOOD,
                sum(0 < one.most == one.done for one in column),
                sum(one.most > 0 for one in column),
            )
            for column in several
        ]


def rows(accounts: Sequence[Account]) -> list[Row]:
    """Return the rows of accounts, in their order: those with notes of the same codes and nothing worse are one."""
    found: dict[DownlinkId | tuple[str, ...], list[Account]] = {}
    for one in accounts:
        codes = tuple(sorted({cause.code for cause in one.causes}))
        on_it = {cause.on_it for cause in one.causes} - {""}
        alike = one.verdict is Verdict.NOTE and not on_it
        found.setdefault(codes if alike else one.downlink, []).append(one)
    return [Row(several) for several in found.values()]


def alike(causes: Sequence[Cause]) -> list[Sequence[Cause]]:
    """Part the causes of a downlink: notes of one code are together."""
    found: dict[object, list[Cause]] = {}
    for cause in causes:
        found.setdefault(cause.code if cause.verdict is Verdict.NOTE else cause, []).append(cause)
    return list(found.values())

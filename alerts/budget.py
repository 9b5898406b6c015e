"""The budget of false alerts, kept at the last step before people: a token bucket of incidents.

In: incidents as they fire and end, and what confirms them. Out: which of them may be told now.
Pure: the clock is an argument, the state is plain values, and the same calls give the same answers.

To tell of an incident takes a token; N tokens come back per week. What proves real gives its
token back, so that only what does not prove real is limited, and that without exception: in any
time t, at most capacity + N t incidents are told that were not proven, and one more for each from
before that proves real in it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final, Literal, Self

from alerts.incident import Incident
from alerts.relation import witness
from alerts.severity import rank

WEEK_S: Final = 604_800.0
DAY_S: Final = 86_400.0
LEAST_CAPACITY: Final = 5.0
"""A user who allows one false alert a week is still told of the first five things that happen."""
PROVEN_A_DAY: Final = 12
"""What comes and goes is proven by its own data so many times a day; then it takes tokens."""
PATIENCE_S: Final = 600.0
"""How long an incident waits for a token before it is listed in a digest: by then the detector has
taken for normal what did not end."""
DIGEST_EVERY_S: Final = 3600.0
SETTLING_S: Final = 60.0
"""What is younger than this may still prove real, and is not listed yet."""

Standing = Literal["paid", "proven", "free", "held"]
"""paid: told, for a token. proven: told, and its token given back (or never taken). free: told, as
hard failures always are. held: not told."""
Proof = Literal["", "corroborated", "lasted", "confirmed", "merged"]
"""merged: it was a part of another incident, which has a token of its own."""
Verdict = Literal["", "confirmed", "dismissed"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """What the user allows.

    Attributes:
        per_week: incidents a week that need not be real, > 0.
        text: the same as the user wrote it.
    """

    per_week: float
    text: str = ""

    @property
    def capacity(self) -> float:
        """How many tokens there can be: a third of a week's, and never less than five."""
        return max(LEAST_CAPACITY, self.per_week / 3.0)

    @property
    def reason(self) -> str:
        """Why an incident is held back, in words."""
        return f"no token was left of false_alerts = {self.text or f'{self.per_week:g}/week'}"


@dataclass(slots=True, kw_only=True)
class Account:
    """What an incident costs.

    Attributes:
        id: of the incident.
        kind: pair, signal and direction of what changed first: what it is again if it comes back.
        opened: when it fired first, epoch seconds.
        rank: of its severity, 0 is the most severe.
        standing: what it cost, see `Standing`.
        proof: why it counts as real; "" while it does not.
        proven: when it was proven, epoch seconds; None while it is not.
        verdict: what the user said of it.
        lasted: whether a finding of it lasted, with a plain effect.
        corroborated: whether two of its findings say something else.
        firing: whether it is not over.
        told: whether receivers are told of it.
        listed: whether a digest has it.
    """

    id: str
    kind: str
    opened: float
    rank: int
    standing: Standing
    proof: Proof = ""
    proven: float | None = None
    verdict: Verdict = ""
    lasted: bool = False
    corroborated: bool = False
    firing: bool = True
    told: bool = False
    listed: bool = False

    @property
    def open(self) -> bool:
        """Whether anything can still come of it: it fires, or waits to be listed."""
        return self.firing or not (self.told or self.listed)

    def evidence(self) -> Proof:
        """Return what speaks for it, the user's word first; "" for nothing."""
        if self.verdict:
            return "confirmed" if self.verdict == "confirmed" else ""
        if self.corroborated:
            return "corroborated"
        return "lasted" if self.lasted else ""

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return {name: getattr(self, name) for name in self.__slots__}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Self:
        """Return what `to_json` was made of."""
        return cls(**data)


class Ledger:
    """The tokens, and the incidents that may still take or give back one.

    Attributes:
        budget: what is allowed.
        tokens: how many there are, 0 to `budget.capacity`.
        at: when `tokens` was right, epoch seconds; None before the first time.
        digested: when the latest digest was made, epoch seconds; None before the first.
        accounts: by id of the incident; those of the last day, and older ones that are still open.
        touched: ids of accounts that changed since this was last emptied, for who stores them.
    """

    def __init__(
        self,
        budget: Budget,
        *,
        tokens: float | None = None,
        at: float | None = None,
        digested: float | None = None,
        accounts: Iterable[Account] = (),
    ) -> None:
        self.budget = budget
        self.tokens = budget.capacity if tokens is None else min(tokens, budget.capacity)
        self.at, self.digested = at, digested
        self.accounts = {account.id: account for account in accounts}
        self.touched: set[str] = set()

    def fire(self, incident: Incident, *, now: float) -> bool:
        """Take an incident that fires, or has changed; return whether to tell of it now.

        A hard failure (severity critical) is always told.
        """
        self._refill(now)
        account = self.accounts.get(incident.id) or self._opened(incident, now=now)
        before = dataclasses.replace(account)
        account.rank, account.firing = rank(incident.severity), True
        seen = {witness(finding) for finding in incident.symptoms} - {""}
        account.corroborated = account.corroborated or len(seen) > 1
        if account.rank == 0 and account.standing == "held":
            account.standing = "free"
        account.told = account.told or account.standing != "held"
        if account != before:
            self.touched.add(incident.id)
        return account.told

    def end(self, id_: str) -> None:
        """Take note that an incident is over."""
        if (account := self.accounts.get(id_)) is not None:
            account.firing = False
            self.touched.add(id_)

    def merge(self, id_: str, into: str) -> None:
        """Take note that an incident was part of another: both together cost one token."""
        account, whole = self.accounts.get(id_), self.accounts.get(into)
        self.end(id_)
        if account is None or account.standing not in ("paid", "free"):
            return
        if whole is not None and whole.standing == "held":
            whole.standing = account.standing
            self.touched.add(into)
        elif account.standing == "paid":
            self.tokens = min(self.budget.capacity, self.tokens + 1.0)
        account.standing, account.proof = "proven", "merged"

    def lasted(self, id_: str) -> None:
        """Take note that an incident lasted, with a plain effect."""
        account = self.accounts.get(id_)
        if account is not None and not account.lasted:
            account.lasted = True
            self.touched.add(id_)

    def judge(self, id_: str, verdict: Verdict, *, now: float) -> None:
        """Take the user's word for an incident: real ("confirmed"), or not ("dismissed").

        What was given back for an incident that is dismissed is taken again.
        """
        self._refill(now)
        account = self.accounts.get(id_)
        if account is None or account.verdict == verdict:
            return
        account.verdict = verdict
        if verdict == "dismissed" and account.standing == "proven":
            self.tokens = max(0.0, self.tokens - 1.0)
            account.standing, account.proof, account.proven = "paid", "", None
        self.touched.add(id_)

    def settle(self, *, now: float) -> list[str]:
        """Give back what is due; return ids of incidents that waited and are to be told now.

        Call it after each step's incidents and confirmations. Of those that wait, the most severe
        and then the oldest go first.
        """
        self._refill(now)
        for account in sorted(self.accounts.values(), key=lambda each: (each.opened, each.id)):
            self._prove(account, now=now)
        waiting = [a for a in self.accounts.values() if a.standing == "held" and a.firing]
        for account in sorted(waiting, key=_urgency):
            if self.tokens < 1.0:
                break
            self.tokens -= 1.0
            account.standing = "paid"
            self.touched.add(account.id)
        return self._released()

    def digest(self, *, now: float) -> list[str]:
        """Return ids of the incidents that a digest is to list now, in order; [] for no digest."""
        if self.digested is not None and self.digested <= now < self.digested + DIGEST_EVERY_S:
            return []
        waiting = [
            account
            for account in self.accounts.values()
            # opened > now: the clock was set back
            if not (account.told or account.listed) and not 0 <= now - account.opened < SETTLING_S
        ]
        if not any(not 0 <= now - account.opened < PATIENCE_S for account in waiting):
            return []
        for account in waiting:
            account.listed = True
            self.touched.add(account.id)
        self.digested = now
        return [account.id for account in sorted(waiting, key=_urgency)]

    def forget(self, *, now: float) -> None:
        """Let go of incidents that nothing more can come of."""
        for account in list(self.accounts.values()):
            if not account.open and not 0 <= now - account.opened < DAY_S:
                del self.accounts[account.id]

    def _refill(self, now: float) -> None:
        # A clock that was set back brings nothing, and takes nothing
        passed = 0.0 if self.at is None else max(0.0, now - self.at)
        gained = passed * self.budget.per_week / WEEK_S
        self.tokens, self.at = min(self.budget.capacity, self.tokens + gained), now

    def _opened(self, incident: Incident, *, now: float) -> Account:
        standing: Standing = "held"
        if incident.severity == "critical":
            standing = "free"
        elif self.tokens >= 1.0:
            standing = "paid"
            self.tokens -= 1.0
        first = incident.symptoms[0]
        account = Account(
            id=incident.id,
            kind="\0".join([*map(str, first.pair), first.signal, first.direction]),
            opened=now,
            rank=rank(incident.severity),
            standing=standing,
        )
        self.accounts[incident.id] = account
        self.touched.add(incident.id)
        return account

    def _prove(self, account: Account, *, now: float) -> None:
        proof = account.evidence()
        if not proof or account.standing not in ("paid", "held"):
            return
        if account.standing == "held" and not account.firing:
            return  # nobody was told, and there is nothing to tell of now
        if proof != "confirmed" and self._proven_today(account.kind, now) >= PROVEN_A_DAY:
            return
        if account.standing == "paid":
            self.tokens = min(self.budget.capacity, self.tokens + 1.0)
        account.standing, account.proof, account.proven = "proven", proof, now
        self.touched.add(account.id)

    def _proven_today(self, kind: str, now: float) -> int:
        return sum(
            each.kind == kind
            and each.proof in ("corroborated", "lasted")
            and each.proven is not None
            and each.proven > now - DAY_S
            for each in self.accounts.values()
        )

    def _released(self) -> list[str]:
        released = [
            account
            for account in self.accounts.values()
            if account.standing != "held" and account.firing and not account.told
        ]
        for account in released:
            account.told = True
            self.touched.add(account.id)
        return [account.id for account in sorted(released, key=_urgency)]


def _urgency(account: Account) -> tuple[object, ...]:
    return (account.rank, account.opened, account.id)

"""One seed chooses everything: what happens, when, with which parameters, and in which order turns are taken."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

from reconciler import errors
from simulation import accidents, auditing, books, changes, faults, laws, world

# Why a process may end of itself: its disk failed, or another one took its lease.
GOOD_ENDS = {"log_append", "lease_lost"}
MOST_HELD = 5  # merges, until somebody prepares a recovery


class Schedule:
    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        self.site = world.Site(seed)
        self.people = changes.People(self.site, self.rng)
        self.auditor = auditing.Auditor(self.site)
        self.accidents = accidents.Accidents(self.site, self.auditor, self.rng)
        self.site.faults.pause = self._pause
        self._running: list[world.Process] = []  # whose turn is under way, the innermost last
        people, beside = self.people, self.accidents
        self.site.start()
        self._events: dict[Callable[[], str], int] = {
            people.change: 30,
            people.revert: 5,
            people.remove: 3,
            people.approve_late: 8,
            people.review: 3,
            people.change_policy: 2,
            people.take_back: 2,
            self._recover: 12,
            beside.edit: 8,
            beside.fight: 2,
            beside.sicken: 4,
            beside.hang: 3,
            beside.cut_off: 4,
            beside.expire: 3,
            beside.lie: 8,
            beside.kill: 12,
            beside.fill: 2,
            beside.pause: 4,
            beside.second: 2,
            beside.restart: 2,
            beside.silence: 2,
            beside.lag: 2,
            beside.rewind: 1,
            beside.break_gate: 4,
            beside.jump: 3,
            beside.step_back: 1,
            beside.operate: 9,
        }

    def step(self) -> None:
        """One thing happens, and a few turns are taken."""
        self.accidents.pass_by()
        (event,) = self.rng.choices(list(self._events), list(self._events.values()))
        if len(self.auditor.state.held) > MOST_HELD:  # Judging it all again at each poll is what takes the time.
            event = self._recover
        try:
            said = event()
        except faults.Killed as exc:  # In a call of an operator's, at the process that was asked.
            said = f"killed {exc}"
        if said:
            self.site.say(f"* {said}")
            self.site.counts[event.__name__.strip("_")] += 1
        for _ in range(self.rng.choice((0, 1, 2, 4, 8, 8))):
            self.turn()
        self.auditor.read()
        laws.what_was_dropped_is_gone(self.auditor)
        laws.the_fold_is_the_same_for_everybody(self.auditor)

    def turn(self, but: Sequence[world.Process] = ()) -> object:
        """The next turn that is due anywhere, time passing until then; the move, or None where a process ended."""
        if all(p in but for p in self.site.processes):
            self.site.time.passed_s += self.rng.choice((0, 1, 125, 125))  # Leases of the dead run out, or not yet.
            self.site.start()
        due = [(at, p.holder, name, p) for p in self.site.processes if p not in but for name, at in p.due.items()]
        soonest = min(at for at, *_ in due)
        now = self.site.time.passed_s = max(self.site.time.passed_s, soonest)
        _, _, name, process = self.rng.choice(sorted(each for each in due if each[0] <= now))
        return self.take(process, name)

    def take(self, process: world.Process, name: str) -> object:
        self.site.turns += 1
        self.site.say(f"{process.holder} {name}")
        self._running.append(process)
        try:
            move = process.turn(name)
        except faults.Killed as exc:
            self.site.end(process, f"killed: {exc}")
            return None
        except errors.AuditError as exc:
            if exc.code not in GOOD_ENDS:
                raise books.Broken(f"{process.holder} ended: {exc.code}: {exc.message}") from exc
            self.site.end(process, f"{exc.code}: {exc.message}")
            return None
        finally:
            self._running.pop()
        self.auditor.read()
        self.site.say(f"    -> {_brief(move)}")
        self.site.counts[f"move: {type(move).__name__}"] += 1
        return move

    def _pause(self) -> None:
        """The process that is in a turn is held up; its leases run out, and another one works."""
        if not self._running:
            return
        held = self._running[-1]
        self.site.say(f"{held.holder} is held up")
        self.site.counts["held up"] += 1
        self.site.time.passed_s += self.rng.choice((1, 130, 130, 400))
        for _ in range(self.rng.randint(4, 16)):
            self.turn(but=tuple(self._running))
        self.site.say(f"{held.holder} goes on")

    def _recover(self) -> str:
        accepted = self.auditor.state.tip
        return self.people.recover(accepted) if accepted else ""


def _brief(move: object) -> str:
    match move:
        case errors.ReconcilerError():
            return f"{move.code}: {move.message}"
        case tuple():
            return f"{len(move)} decided"
        case _:
            return str(move)[:200]

"""What happens beside the repository: hands at targets, sick targets, dead processes, sources that lag, clocks, operators."""

from __future__ import annotations

import random
from collections.abc import Callable

from reconciler import errors, model
from reconciler.audit import record
from simulation import auditing, changes, faults, world

LIES: tuple[faults.Lie, ...] = ("claims", "lost", "unsent", "partial", "refuses", "breaks", "moved", "keeps")


class Accidents:
    """Each method does one thing and returns what it was, or "" where there was nothing to do."""

    def __init__(self, site: world.Site, auditor: auditing.Auditor, rng: random.Random) -> None:
        self.site, self.auditor, self.rng = site, auditor, rng
        self._until: list[tuple[float, Callable[[], None]]] = []

    def pass_by(self) -> None:
        """What was to last until now ends."""
        due = [each for each in self._until if each[0] <= self.site.time.passed_s]
        self._until = [each for each in self._until if each not in due]
        for _, undo in due:
            undo()

    def heal(self) -> None:
        """Everything works again, for good."""
        for _, undo in self._until:
            undo()
        self._until = []
        self.site.faults.clear()
        self.site.time.behind_s = 0
        if self.site.bank.store._pushed[-1] != self.site.bank.tip:
            self.site.bank.store.push(self.site.bank.tip)

    def _for_a_while(self, undo: Callable[[], None]) -> None:
        self._until.append((self.site.time.passed_s + self.rng.choice((5, 40, 200)), undo))

    def _world(self) -> world.World | None:
        names = sorted(self.site.worlds)
        return self.site.worlds[self.rng.choice(names)] if names else None

    # --- targets ---

    def edit(self) -> str:
        """Somebody changes, deletes, creates or unmarks something by hand."""
        target = self._world()
        if target is None:
            return ""
        keys = sorted(target.values)
        kind = self.rng.choice(("change", "delete", "create", "unmark"))
        if kind == "create" or not keys:
            short = self.rng.choice(changes.KEYS)
            member, _, name = short.rpartition(":")
            key = model.Key(f"{member}:item/n/{name}" if member else f"item/n/{name}")
            target.edit(key, "by hand")
        elif kind == "unmark":
            key = self.rng.choice(keys)
            target.unmarked.add(key)
        else:
            key = self.rng.choice(keys)
            target.edit(key, None if kind == "delete" else self.rng.choice(("by hand", "1", "bad")))
        return f"by hand at {target.name}: {kind} {key}"

    def fight(self) -> str:
        """Another controller undoes the last thing that was done here."""
        target = self._world()
        if target is None or not target.writes:
            return ""
        key, _ = target.writes[-1]
        target.edit(key, f"theirs {self.rng.randrange(100)}")
        return f"another controller at {target.name}: {key}"

    def sicken(self) -> str:
        target = self._world()
        if target is None:
            return ""
        target.sick = self.rng.choice((model.Health.FAILED, model.Health.PROGRESSING, model.Health.UNKNOWN))
        self._for_a_while(lambda: setattr(target, "sick", None))
        return f"{target.name} is {target.sick}"

    def hang(self) -> str:
        target = self._world()
        if target is None:
            return ""
        target.busy = True
        self._for_a_while(lambda: setattr(target, "busy", False))
        return f"{target.name} is busy"

    def cut_off(self) -> str:
        target = self._world()
        if target is None:
            return ""
        member = self.rng.choice(("", "m1", "m2"))
        target.unreachable.add(member)
        self._for_a_while(lambda: target.unreachable.discard(member))
        return f"{target.name}: {member or 'all of it'} is unreachable"

    def expire(self) -> str:
        target = self._world()
        if target is None or target.armed is None:
            return ""
        target.expire()
        return f"the dead-man of {target.name} fires"

    def lie(self) -> str:
        self.site.faults.lie = self.rng.choice(LIES)
        return f"the next apply: {self.site.faults.lie}"

    # --- processes ---

    def kill(self) -> str:
        self.site.faults.kill_in = self.rng.randrange(14)
        return f"to be killed in {self.site.faults.kill_in} points"

    def fill(self) -> str:
        self.site.faults.full = self.rng.choice(("before", "after"))
        return f"the disk is full {self.site.faults.full} the next commit"

    def pause(self) -> str:
        self.site.faults.pause_in = self.rng.randrange(4)
        return f"to be held up at a point {self.site.faults.pause_in} from now"

    def second(self) -> str:
        if len(self.site.processes) > 1:
            return ""
        return f"a second daemon: {self.site.start().holder}"

    def restart(self) -> str:
        """A clean end and a new start."""
        if not self.site.processes:
            return ""
        process = self.rng.choice(self.site.processes)
        process.core.close()
        try:
            process.log.close()
        except (faults.Killed, errors.AuditError) as exc:
            self.site.say(f"while it was closed: {exc}")
        self.site.end(process, "it was stopped")
        return f"{process.holder} is stopped"

    # --- source, gates, time ---

    def silence(self) -> str:
        store = self.site.bank.store
        store.down = True
        self._for_a_while(lambda: setattr(store, "down", False))
        return "the source is away"

    def lag(self) -> str:
        store = self.site.bank.store
        store.lagging = self.rng.randint(1, 2)
        self._for_a_while(lambda: setattr(store, "lagging", 0))
        return f"the source lags by {store.lagging}"

    def rewind(self) -> str:
        """Somebody pushes an older commit by force; later the right one is pushed again."""
        bank = self.site.bank
        older = bank.store.parents(bank.tip)
        if not older or bank.store._pushed[-1] != bank.tip:
            return ""
        bank.store.push(older[0] if self.rng.random() < 0.8 else None)
        self._for_a_while(lambda: None if bank.store._pushed[-1] == bank.tip else bank.store.push(bank.tip))
        return "the watched ref is rewound"

    def break_gate(self) -> str:
        self.site.gate_broken = self.rng.choice(("broken", "late", "bug"))
        self._for_a_while(lambda: setattr(self.site, "gate_broken", ""))
        return f"the gate opa: {self.site.gate_broken}"

    def jump(self) -> str:
        seconds = self.rng.choice((60, 400, 4000))
        self.site.time.passed_s += seconds
        return f"{seconds} s pass at once"

    def step_back(self) -> str:
        self.site.time.behind_s = self.rng.choice((0, 10, 200))
        return f"the wall clock is {self.site.time.behind_s} s behind"

    # --- operators ---

    def operate(self) -> str:
        known = sorted(self.auditor.state.targets)
        if not known or not self.site.processes:
            return ""
        name, process = self.rng.choice(known), self.rng.choice(self.site.processes)
        verb = self.rng.choices(("suspend", "resume", "reconcile", "rollback", "drop"), (2, 4, 4, 5, 2))[0]
        if verb == "drop" and not process.log.state.target(name).released:
            return ""
        self.site.say(f"operator: {verb} {name} at {process.holder}")
        try:
            self._ask(process, verb, name)
        except (errors.ConfigError, errors.TransientError) as exc:
            return f"operator: {verb} {name}: refused, {exc.code} {exc.message}"
        except faults.Killed as exc:
            self.site.end(process, f"killed: {exc}")
        except errors.AuditError as exc:
            self.site.end(process, f"{exc.code}: {exc.message}")
        return f"operator: {verb} {name}"

    def _ask(self, process: world.Process, verb: str, name: str) -> None:
        if verb != "rollback":
            event = record.Operator.model_validate(
                {"actor": "uid:1000", "verb": verb, "target": name, "reason": "INC1"}
            )
            process.operate(event)
            return
        deployments = sorted(self.auditor.history(name).closed)
        if not deployments:
            return
        process.log.lease("watch")
        fresh = process.core.fresh_target(name)
        fresh.pin(self.rng.choice(deployments), actor="uid:1000", reason="INC2")
        process.wake(f"target:{name}")

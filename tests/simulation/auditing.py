"""Follows the log as it is stored, and every write at a target as it happens; asks the laws of each."""

from __future__ import annotations

from pydantic import JsonValue

from reconciler import model
from reconciler.audit import chain, fold, record
from simulation import books, laws, telling, world


class Auditor(books.Books):
    """Follows the log as it grows; `take` runs the laws of records, `on_write` those of writes."""

    def __init__(self, site: world.Site) -> None:
        super().__init__(site)
        site.on_write = self.on_write

    def read(self) -> None:
        """Follow what is stored: every row continues the chain, and every record keeps the laws."""
        rows = self.site.sqlite.execute(
            "SELECT seq, scope, epoch, prev, leaf, body FROM log WHERE seq >= ? ORDER BY seq", (self.chain.size,)
        ).fetchall()
        for row in rows:
            self.chain, entry = self.chain.follow(chain.Row(*row))
            self.site.say(f"  #{entry.seq} {entry.scope} {telling.brief(entry.event)}")
            self._take(entry)
            self.state = fold.fold(self.state, entry)
            self.records.append(entry)

    # --- records ---

    def _take(self, entry: record.Record) -> None:  # noqa: C901, PLR0912 - one table over events
        match entry.event:
            case record.Genesis() | record.Reset() as event:
                for name, digest in event.targets.items():
                    history = self.history(name)
                    history.cleared = model.Version(revision=event.revision, digest=digest)
                    history.taken_over = not (isinstance(event, record.Genesis) and event.converge)
                    if not history.taken_over:
                        history.passed.add(digest)
            case record.TakenOver(converge=True) as event:
                for name, digest in event.targets.items():
                    laws.only_what_no_merge_has_touched_is_let_go_later(self.history(name), digest)
                    self.history(name).taken_over = False
                    self.history(name).passed.add(digest)
                self.site.counts["converges later"] += 1
            case record.Decision(verdict=model.Verdict.ACCEPT) as event:
                laws.a_merge_comes_in_only_signed_and_approved(self, event)
                self.decisions[event.revision] = event
                self.site.accepted.add(event.revision)
                self.site.counts["emergencies"] += event.emergency is not None
                for name, target_digest in event.targets.items():
                    if target_digest:
                        self.history(name).accepted.add(target_digest)
            case record.Clearance() as event:
                laws.a_merge_is_cleared_only_if_it_was_accepted_and_all_its_gates_pass(self, event)
                self.clearances[event.revision] = event
                if event.passed:
                    self._move(event.revision)
            case record.Operator() as event:
                self._operate(event)
            case record.Obligation() as event:
                laws.what_is_owed_is_what_was_let_in_and_ends_by_others(self, event)
                self.site.counts[f"obligation: {event.kind} {event.change}"] += 1
            case record.Intent() as event:
                for law in laws.INTENT_LAWS:
                    law(self, self.history(event.target), event)
                self._intend(event)
            case record.Applied() as event:
                laws.every_intent_is_accounted_for_once(self.history(event.target), event)
                self._apply(event)
            case record.Outcome() as event:
                laws.a_deployment_has_one_outcome(self.history(event.target), event)
                self._close(event)
            case record.Confirmed() as event:
                laws.only_what_was_accepted_and_cleared_is_confirmed(self.history(event.target), event)
                self._confirm(self.history(event.target), event.version.digest)
            case _:
                pass

    def _move(self, revision: model.Oid) -> None:
        decided = self.decisions[revision]
        seq = next(e.seq for e in reversed(self.records) if e.event is decided)
        for name, digest in decided.targets.items():
            history = self.history(name)
            if seq <= history.cleared_at:
                continue  # A newer merge has moved it.
            history.cleared_at = seq
            history.cleared = model.Version(revision=revision, digest=digest) if digest else None
            history.released, history.taken_over, history.dropped = digest is None, False, False
            history.failed.clear()
            history.pinned = None
            if digest:
                history.passed.add(digest)

    def _operate(self, event: record.Operator) -> None:
        history = self.history(event.target)
        match event.verb:
            case "suspend":
                history.suspended = True
            case "resume":
                history.suspended = False
            case "reconcile":
                history.failed.clear()
                history.pinned = None
            case "rollback":
                history.pinned = event.pin.digest if event.pin else None
            case "drop":
                if history.released:
                    self.targets[event.target] = books.History(
                        event.target,
                        cleared_at=history.cleared_at,
                        dropped=True,
                        closed=history.closed,
                        accepted=history.accepted,
                    )

    def _intend(self, event: record.Intent) -> None:
        history = self.history(event.target)
        history.open = history.open or event
        history.unsettled = event
        history.snapshots.add(event.snapshot)
        for key, action in event.actions.items():
            if action == "adopt":
                history.adopted.setdefault(key, event.snapshot)

    def _apply(self, event: record.Applied) -> None:
        history = self.history(event.target)
        intent, history.unsettled = history.unsettled, None
        for key, identity in event.owned.items():
            if identity is None:
                history.owned.discard(key)
                history.created.discard(key)
                continue
            history.owned.add(key)
            if intent and intent.actions.get(key) == "create":
                history.created.add(key)

    def _close(self, event: record.Outcome) -> None:
        history = self.history(event.target)
        history.closed[event.deployment] = event.closed
        intent, history.open, history.deleted = history.open, None, 0
        if intent is None:
            return
        if event.closed is model.Closed.SUCCEEDED:
            back = intent.cause is model.Cause.ROLLBACK
            if back:
                history.owned -= history.adopted.keys()
            self._confirm(history, intent.wanted.digest)
        if event.closed is model.Closed.FAILED and intent.cause is not model.Cause.DRIFT:
            history.failed.add(intent.wanted.digest)

    def _confirm(self, history: books.History, digest: model.Digest) -> None:
        history.confirmed = digest
        history.ever_confirmed.add(digest)
        history.adopted.clear()
        history.created.clear()

    # --- writes ---

    def on_write(self, target: world.World, permit: model.Permit, key: model.Key, value: JsonValue) -> None:
        self.read()
        self.site.say(f"  write {target.name} {key} = {value!r} ({permit.deployment})")
        history = self.history(target.name)
        laws.nothing_is_written_without_a_durable_intent(history, permit, key)
        laws.only_the_wanted_value_is_written(self, history, key, value)
        laws.nothing_is_written_twice(target, permit, key, value)
        if value is None:
            laws.only_what_is_ours_is_deleted(target, history, key)
            history.deleted += key not in history.created
            laws.a_deployment_stays_within_its_delete_budget(self, target, history, key)

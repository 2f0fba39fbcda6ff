"""`web.application.Application` over the real ports: what the daemon runs, and the command line where no daemon does."""

from __future__ import annotations

import importlib.metadata
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

from pydantic import JsonValue

from reconciler import config, errors, model, ports
from reconciler.admission import judging, policy, reviewing, statement
from reconciler.audit import identity, query, signing, storage, verification
from reconciler.audit import record as events
from reconciler.audit import state as folded
from reconciler.convergence import deciding
from reconciler.daemon import clock, composing, core, opening, preview, watching
from reconciler.git import mirror
from reconciler.views import audit, metrics, plans, status, targets
from reconciler.web.application import Verb


def version() -> str:
    return importlib.metadata.version("reconciler")


class Application:
    """Made once in a process. `wake` is replaced by the daemon that takes its turns."""

    def __init__(self, configuration: config.Configuration, *, converge: bool = False) -> None:
        """Open the log and the mirror; touches no network.

        Raises: ConfigError; AuditError where the log or the mirror is not as we left it.
        """
        self.configuration = configuration
        self.clock = clock.SystemClock()
        self.started: model.Time | None = None  # set by the daemon that runs on it
        self.wake: Callable[[str], None] = lambda _name: None
        self.engine = storage.make_engine(configuration.store_url)
        self.signer = signing.FileSigner.read(configuration.store.signing_key)
        self._mirror = mirror.Mirror(configuration.state / "mirror.git", composing.watched(configuration))
        audit_log = opening.make_log(configuration, self.engine, self.signer, self.clock)
        reach = composing.PolicyReach(self.state, self._mirror.repository)
        drivers = composing.drivers(configuration, self.clock, reach, lambda target: self.wake(f"target:{target}"))
        gates_over = composing.gates_over(configuration, drivers, self.clock)
        outside = core.Ports(
            audit=audit_log,
            source=self._mirror,
            repository=self._mirror.repository,
            drivers=drivers,
            gates=gates_over(self._mirror.repository),
            clock=self.clock,
            concurrency=clock.Threads(),
            new_id=lambda: identity.uuid7(self.clock.now()),
        )
        self.core = core.Core(outside, composing.settings(configuration, converge=converge))
        self._rules: tuple[model.Oid, policy.Policy] | None = None
        self._previews = preview.Previews(self.core, gates_over)
        self._metrics = metrics.Metrics(self.state, self.live, self.facts, self.clock.now, self.rules)
        audit_log.subscribe(self._metrics.heard)

    def close(self) -> None:
        self.core.close()
        self.core.audit.close()
        self._mirror.close()
        self.engine.dispose()

    @contextmanager
    def timed(self, turn: str) -> Iterator[None]:
        begun = time.monotonic()
        try:
            yield
        finally:
            self._metrics.turned(turn.partition(":")[0], time.monotonic() - begun)

    def note_configuration(self) -> None:
        """Record that the configuration is another than the log knows. Needs the lease of `watch`."""
        digest = self.configuration.digest
        if self.core.audit.state.config != digest:
            self.core.audit.lease("watch")
            self.core.audit.append(events.Config(digest=digest, where=self.configuration.installation))

    def watched_paths(self) -> dict[str, tuple[Path, ...]]:
        """Turn -> the local files whose change makes it due at once."""
        paths = {"watch": watching.source_paths(self.configuration.source.url)}
        for name, each in self.state().targets.items():
            wanted = self._wanted(each)
            if wanted is not None:
                paths[f"target:{name}"] = composing.watched_paths(self.configuration, wanted, self.clock)
        return paths

    # --- web.application.Application ---

    def facts(self) -> status.Facts:
        fetches = self.core.contact.fetches
        return status.Facts(
            installation=self.configuration.installation,
            profile=self.configuration.profile,
            version=version(),
            watching=self.started is not None,
            started=self.started,
            fetched=fetches.last,
            fetch_error=model.Reason.of(fetches.failure) if fetches.failure else None,
            warnings=self.configuration.warnings,
        )

    def ready(self) -> model.ValidationResult:
        known, fetches = self.state(), self.core.contact.fetches
        reasons = [*status.alarms(known)]
        if known.tip is None:
            reasons.append(model.Reason(code="genesis", message="the pinned genesis has not been read yet"))
        if fetches.failure:
            reasons.append(model.Reason.of(fetches.failure))
        elif self.started and fetches.last is None:
            reasons.append(model.Reason(code="starting", message="the source has not been read yet"))
        return tuple(reasons)

    def state(self) -> folded.State:
        return self.core.audit.state

    def live(self) -> Mapping[str, targets.Live]:
        looked_at = self.core.looked_at()
        found = {}
        for name, each in self.state().targets.items():
            wanted, running = self._wanted(each), looked_at.get(name)
            found[name] = targets.Live(
                type=wanted.kind if wanted else "",
                environment=wanted.environment if isinstance(wanted, model.Desired) else "",
                observed=running.observed if running else None,
                look=running.last if running else None,
                plan=running.last_plan if running else None,
            )
        return found

    def rules(self) -> policy.Policy:
        """Kept, so that metrics wait for no repository: it changes with a merge only."""
        revision = self.state().policies or self._tip()
        kept = self._rules
        if kept is None or kept[0] != revision:
            kept = self._rules = (revision, policy.read_policy(self.core.repository, revision))
        return kept[1]

    def reviews(self) -> Mapping[model.Oid, reviewing.Reviewed]:
        known, terms = self.state(), self.core.settings.terms
        try:
            return reviewing.look(self.core.repository, known, terms=terms, now=self.clock.now())
        except errors.AuditError as exc:  # The alarm of the store is recorded by the poll that meets it.
            return dict.fromkeys(known.reviews, reviewing.unreadable(exc))

    def now(self) -> datetime:
        return self.clock.now()

    def records(self, query_: audit.Query) -> Sequence[events.Record]:
        return audit.find(self.engine, query_)

    def read(self, seq: int) -> events.Record:
        return query.show(self.engine, seq)

    def values(self, kind: str, beginning: str = "", limit: int = -1) -> Sequence[str]:
        return query.values(self.engine, kind, beginning, limit=limit)

    def declared(self, target: str, version: model.Version, key: model.Key) -> JsonValue:
        state = self.core.read(target, version).state if version.revision else None
        if not isinstance(state, model.Desired):
            return None  # The state before there was a document.
        driver = self.core.outside.drivers[state.kind]()
        try:
            if not isinstance(driver, ports.Declaring):
                raise errors.ConfigError("field", f"a target of type {state.kind} cannot say what stands in a field")
            return driver.declared(state).get(key)
        finally:
            driver.close()

    def verification(self) -> verification.Report:
        """The whole log, verified. Blocks for long."""
        return verification.verify(self.engine, self.signer.public, composing.origin(self.configuration))

    def verify_log(self) -> int:
        report = self.verification()
        for first in report.problems[:1]:
            raise errors.AuditError(first.code, first.message, where=first.where, fix=first.fix)
        return report.size

    def diff(self, target: str) -> plans.Preview:
        return self._previews.now(target)

    def plan(self, head: model.Oid | None) -> Sequence[plans.Preview]:
        if head is None:
            return tuple(self._previews.now(name) for name in sorted(self.state().targets))
        self._hold(head)
        return self._previews.plan(head)

    def verify(self, head: model.Oid | None) -> Sequence[events.Decision | judging.Judged]:
        if head is None:
            return self.core.held()
        self._hold(head)
        return (self._previews.judge(head),)

    def run_gates(self, head: model.Oid) -> events.Clearance:
        self._hold(head)
        return self._previews.run_gates(head)

    def operate(self, verb: Verb, target: str, *, actor: str, reason: str) -> None:
        known = self.state().target(target)
        if verb == "drop" and known.open:
            fix = "wait until it has closed: `reconciler get deployments`"
            raise errors.ConfigError("busy", f"a deployment of {target} is open", where=target, fix=fix)
        if verb == "drop" and not known.released:
            fix = "mode: absent takes a target down; removing its folder releases it"
            raise errors.ConfigError("not_released", f"{target} is not released", where=target, fix=fix)
        self.core.audit.lease("watch")
        event = events.Operator(actor=actor, verb=verb, target=target, reason=reason)
        self.core.audit.append(event, actor=actor)
        self.wake(f"target:{target}")

    def rollback(
        self, deployment: str, *, actor: str, reason: str, acknowledged: tuple[tuple[str, model.Key], ...]
    ) -> model.Version:
        target = self.core.audit.intent(deployment).target
        if target not in self.state().targets:
            fix = "git revert -m 1 takes a whole merge back"
            said = f"{deployment} is a deployment of {target}: no target has that name any more"
            raise errors.ConfigError("not_pinnable", said, where=deployment, fix=fix)
        self.core.audit.lease("watch")
        fresh = self.core.fresh_target(target)
        back = fresh.pin(deployment, actor=actor, reason=reason, acknowledged=acknowledged)
        self.wake(f"target:{target}")
        return back

    def submit(self, envelope: bytes) -> model.Digest:
        rules = policy.read_policy(self.core.repository, self._tip())
        opened = statement.open_envelope(envelope, namespace=rules.namespace)
        if isinstance(opened, model.Reason) or not rules.knows(opened.key.key_id):
            why = opened.message if isinstance(opened, model.Reason) else "signed with a key that nobody here knows"
            raise errors.ConfigError("envelope_invalid", why, fix="sign it: reconciler approve HEAD --key KEY --push")
        self._mirror.keep_approval(opened.binding.head, envelope)
        self.core.contact.note_upload()
        self.wake("watch")
        return opened.digest

    def metrics(self) -> bytes:
        return self._metrics.exposition()

    # ---

    def walk(self, tip: model.Oid) -> Sequence[events.Decision]:
        """The verdicts on what follows the last accepted commit up to this tip; recorded nowhere."""
        known, found = self.state(), list[events.Decision]()

        def keep(judged: judging.Judged) -> folded.State:
            nonlocal known
            found.append(judged.decision)
            accepted = judged.decision.verdict is model.Verdict.ACCEPT
            known = known.model_copy(update={"tip": judged.decision.revision}) if accepted else known
            return known

        terms = self.core.settings.terms
        decided = judging.walk(self.core.repository, tip, known, keep, terms=terms, clock=self.clock)
        return found or decided  # A rewritten history is not given to `keep`.

    def _wanted(self, known: folded.Target) -> model.Wanted | None:
        """The state that a target should be in, as far as it can be read."""
        goal = deciding.wanted_now(known)
        if isinstance(goal, deciding.Stand):
            return None
        try:
            return self.core.read(known.name, goal).state
        except errors.ReconcilerError:
            return None

    def _tip(self) -> model.Oid:
        tip = self.state().tip
        if tip is None:
            raise errors.ConfigError("genesis", "the pinned genesis has not been read yet", fix="reconciler run")
        return tip

    def _hold(self, head: model.Oid) -> None:
        """Bring an unmerged head here, by its id."""
        self._tip()
        if not self._mirror.repository.exists(head):
            self._mirror.fetch_head(head)

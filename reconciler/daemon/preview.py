"""What an unmerged head would do: the same judging, clearing and planning, over the accepted connections, writing nothing."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterator
from dataclasses import replace

from reconciler import documents, errors, model, ports
from reconciler.admission import judging
from reconciler.audit import record
from reconciler.convergence import clearing
from reconciler.daemon import core, merged
from reconciler.views import plans

GatesOver = Callable[[ports.Repository], ports.Gates]
_DIFF_BYTES = 256 << 10


class Previews:
    """Bound to a core; every call may come from any thread and uses drivers of its own."""

    def __init__(self, running: core.Core, gates_over: GatesOver) -> None:
        self._core, self._gates_over = running, gates_over

    def judge(self, head: model.Oid) -> judging.Judged:
        """The verdict on the automatic merge of a head that the repository holds."""
        known, clock = self._core.audit.state, self._core.outside.clock
        terms = self._core.settings.terms
        return judging.examine_head(self._core.repository, head, known, terms=terms, now=clock.now())

    def run_gates(self, head: model.Oid) -> record.Clearance:
        """Raises: PermanentError(not_readable) where its content may not be parsed."""
        decision, onto = self._readable(head)
        suite = replace(self._core.suite, gates=self._gates_over(onto))
        try:
            results = clearing.preview(decision, onto, self._core.audit.state, suite)
        except errors.ConfigError as exc:
            reason = model.Reason.of(exc)
            results = (model.GateResult(check="schema", outcome=model.Outcome.FAIL, findings=(reason,)),)
        return record.Clearance(revision=head, results=results, passed=clearing.passes(results))

    def plan(self, head: model.Oid) -> tuple[plans.Preview, ...]:
        """Of each target that the head touches. Raises: as `run_gates`."""
        decision, onto = self._readable(head)
        return tuple(self._of_head(name, head, onto) for name in sorted(decision.targets))

    def now(self, name: str) -> plans.Preview:
        """What the next turns of a target would write; looks at it now.

        Raises: ConfigError where there is no state that it should be in.
        """
        fresh = self._core.fresh_target(name)
        try:
            plan = fresh.next_plan()
            return plans.Preview(target=name, plan=plan, rehearsed=fresh.rehearse(plan))
        except errors.ReconcilerError as exc:
            return plans.Preview(target=name, reasons=(model.Reason.of(exc),))
        finally:
            fresh.close()

    def _readable(self, head: model.Oid) -> tuple[record.Decision, merged.Merged]:
        """Nothing of a head is parsed unless every commit in it is signed by somebody known (design.md 9)."""
        judged = self.judge(head)
        decision = judged.decision
        if judged.binding is None:  # Nor of one whose tree is refused.
            why = (
                decision.reasons[0]
                if decision.reasons
                else model.Reason(code="unknown", message="it could not be judged")
            )
            raise errors.PermanentError(
                "not_readable", f"its content is not looked at: {why.message}", where=why.where, fix=why.fix
            )
        return decision, merged.Merged(self._core.repository, head, decision.base)

    def _of_head(self, name: str, head: model.Oid, onto: merged.Merged) -> plans.Preview:
        tip = self._core.audit.state.tip
        content = folder_diff(onto, tip, head, name) if tip else ""
        fresh = self._core.fresh_target(name)
        try:
            document = documents.read_target(onto, head, name)
            if document is None:
                why = model.Reason(
                    code="released", message="its document goes: nothing is written, the target is released"
                )
                return plans.Preview(target=name, reasons=(why,), content=content)
            plan = fresh.plan(document.desired)
            said = fresh.rehearse(plan, document.desired)
            return plans.Preview(target=name, plan=plan, rehearsed=said, content=content)
        except errors.ReconcilerError as exc:
            return plans.Preview(target=name, reasons=(model.Reason.of(exc),), content=content)
        finally:
            fresh.close()


def folder_diff(repository: ports.Repository, before: model.Oid, after: model.Oid, name: str) -> str:
    """A unified diff of one target's folder, path by path, without rename detection; what is no text is named only."""
    old = documents.folder(repository.tree(before), f"targets/{name}".encode())
    new = documents.folder(repository.tree(after), f"targets/{name}".encode())
    lines: list[str] = []
    for path in sorted(old.keys() | new.keys()):
        if old.get(path) != new.get(path):
            lines += _file_diff(repository, path.decode(errors="backslashreplace"), old.get(path), new.get(path))
    return "\n".join(lines)


def _file_diff(
    repository: ports.Repository, path: str, old: model.Entry | None, new: model.Entry | None
) -> Iterator[str]:
    before, after = _lines(repository, old), _lines(repository, new)
    if old and new and old.mode != new.mode:
        yield f"mode {path}: {old.mode} -> {new.mode}"
    if before is None or after is None:
        yield f"binary {path}: {old.sha256[:12] if old else 'absent'} -> {new.sha256[:12] if new else 'absent'}"
        return
    names = (f"a/{path}" if old else "/dev/null", f"b/{path}" if new else "/dev/null")
    yield from difflib.unified_diff(before, after, names[0], names[1], lineterm="")


def _lines(repository: ports.Repository, entry: model.Entry | None) -> list[str] | None:
    if entry is None:
        return []
    blob = repository.read(entry.oid)
    if len(blob) > _DIFF_BYTES:
        return None
    try:
        *lines, rest = blob.decode().split("\n")  # Only LF ends a line.
    except UnicodeDecodeError:
        return None
    return [*lines, f"{rest}\n\\ No newline at end of file"] if rest else lines

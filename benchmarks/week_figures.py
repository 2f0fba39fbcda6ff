"""What the log and the people of a working week tell: approvals and why they did not count, waits and for what."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from functools import cached_property

import report
import week_bank
import week_people

from reconciler import model
from reconciler.audit import record

NOBODY = "nobody's: what was approved is not what would be there"
BELOW = "its branch stood on the direct push, which was taken back"
FAULTS = {  # Why an approval did not count, or a target waited -> whose fault it is
    week_people.MOVED: NOBODY,
    "unrelated merges only": "OURS",
    BELOW: "of whoever pushed directly",
    week_people.CLICKED: "nobody's: what came in moved the same target",
    week_people.AMENDED: "its author's",
    week_people.RESOLVED: "nobody's: two people on one file",
    week_people.REWRITTEN: "of whoever lost the key",
    "key_revoked": "of whoever lost the key",
    "rejected": "nobody's: it was said, and it is a vote against",
    "not merged by the end": "-",
    "uncleared": "the scanner's",
    "uncleared beside": "nobody's: one merge, one answer (design.md 2); merge apart what is apart",
    "deferred": "the policy's freeze",
    "dependency": "nobody's: what it stands on comes first",
    "other": "to be looked into",
}


class Figures:
    """`back`: when the scanner answers again."""

    def __init__(
        self, people: week_people.People, records: Sequence[record.Record], end: datetime, back: datetime
    ) -> None:
        self.people, self.records, self.end, self.back = people, records, end, back
        self.targets = week_bank.targets()

    @cached_property
    def decisions(self) -> list[tuple[datetime, record.Decision]]:
        return [(e.at, e.event) for e in self.records if isinstance(e.event, record.Decision)]

    # --- approvals ---

    def approvals(self) -> Counter[tuple[str, str]]:
        """(fate, cause) -> how many statements."""
        return Counter(self._fate(vote) for vote in self.people.votes)

    def _fate(self, vote: week_people.Vote) -> tuple[str, str]:
        judged = self._judged.get(vote.statement)
        if judged and judged[1] is None:
            return "counted", ""
        if vote.decision == "reject":
            return "rejection", "rejected"
        if vote.lost:
            return "stale: another head", vote.lost
        if judged is None and not vote.request.merged and self.people.seen_refused.get(vote.statement):
            code = self.people.seen_refused[vote.statement]
            return f"stale: {code}", week_people.MOVED if code == "stale_effect" else code
        if judged is None:
            return "still open", "not merged by the end"
        decision, reason = judged
        return f"stale: {reason}", self._cause(vote, decision) if reason == "stale_effect" else str(reason)

    @cached_property
    def _judged(self) -> dict[model.Digest, tuple[record.Decision, str | None]]:
        """By the accepted merge that it was for."""
        accepted = (each for _, each in self.decisions if each.verdict is model.Verdict.ACCEPT)
        return {
            approval.statement: (each, approval.reason.code if approval.reason else None)
            for each in accepted
            for approval in each.approvals
        }

    def _cause(self, vote: week_people.Vote, decision: record.Decision) -> str:
        """Whether a merge between touched what this one touches."""
        order = [each for _, each in self.decisions if each.verdict is model.Verdict.ACCEPT]
        revisions = [each.revision for each in order]
        first = revisions.index(vote.base) + 1 if vote.base in revisions else 0
        between = order[first : revisions.index(decision.revision)]
        own = self._touched(decision)
        if any(own & self._touched(each) for each in between):
            return week_people.MOVED
        store, taken_back = self.people.bank.store, [oid for each in order for oid in each.skipped]
        return BELOW if any(store.is_ancestor(oid, vote.head) for oid in taken_back) else "unrelated merges only"

    def _touched(self, decision: record.Decision) -> set[str]:
        return {*decision.targets, *(("policies",) if decision.policies else ())}

    @property
    def needless(self) -> int:
        return sum(vote.needless for vote in self.people.votes)

    # --- waits ---

    def waits(self) -> dict[tuple[str, str], list[timedelta]]:
        """(standing, for what) -> how long, each time."""
        found: dict[tuple[str, str], list[timedelta]] = {}
        for target, since, until, standing in self._standings():
            found.setdefault((standing.code or "", self._what(target, standing)), []).append(until - since)
        return found

    def _standings(self) -> Iterator[tuple[str, datetime, datetime, record.Standing]]:
        """Each standing until the same target stands otherwise, writes or is confirmed."""
        open_: dict[str, tuple[datetime, record.Standing]] = {}
        for entry in self.records:
            event = entry.event
            if not isinstance(event, record.Standing | record.Intent | record.Confirmed | record.Outcome):
                continue
            if event.target in open_:
                since, standing = open_.pop(event.target)
                yield event.target, since, entry.at, standing
            if isinstance(event, record.Standing) and event.code:
                open_[event.target] = (entry.at, event)
        for target, (since, standing) in open_.items():
            yield target, since, self.end, standing

    def _what(self, target: str, standing: record.Standing) -> str:
        if standing.code == "uncleared":
            gates = [reason.message.partition(":")[0] for reason in standing.reasons if reason.code == "gate"]
            own = self.targets[target].scanned
            return f"gate {gates[0] if gates else '?'}" + ("" if own else ", which this target does not ask for")
        return standing.reasons[0].code if standing.reasons else ""

    def leads(self) -> dict[str, list[timedelta]]:
        """From a merge's acceptance until it was confirmed on each target that it touches."""
        waiting: dict[str, list[datetime]] = {}
        found: dict[str, list[timedelta]] = {}
        for entry in self.records:
            event = entry.event
            if isinstance(event, record.Decision) and event.verdict is model.Verdict.ACCEPT:
                for name in event.targets:
                    waiting.setdefault(name, []).append(entry.at)
            if isinstance(event, record.Confirmed | record.Outcome) and _is_there(event):
                for since in waiting.pop(event.target, []):
                    found.setdefault(self._group(event.target), []).append(entry.at - since)
        for name, left in waiting.items():
            found.setdefault(f"{self._group(name)}, still waiting", []).extend(self.end - since for since in left)
        return found

    def _group(self, name: str) -> str:
        target = self.targets[name]
        return f"{target.environment}, {'asks for the scanner' if target.scanned else 'does not ask for the scanner'}"

    def blocked(self) -> timedelta:
        """How long the history did not go on."""
        total, since = timedelta(), None
        for at, decision in self.decisions:
            if decision.verdict is model.Verdict.ACCEPT:
                total += at - since if since else timedelta()
                since = None
            else:
                since = since or at
        return total

    def after_the_scanner(self) -> list[timedelta]:
        """From its return until what had waited for it was cleared."""
        asked = {at_of.revision: at for at, at_of in self.decisions if at < self.back}
        passed = [
            (e.at, e.event.revision) for e in self.records if isinstance(e.event, record.Clearance) and e.event.passed
        ]
        return [at - self.back for at, revision in passed if revision in asked and at >= self.back]

    def opened_to_merged(self) -> list[timedelta]:
        return [request.merged - request.opened for request in self.people.requests if request.merged]


def spread(found: Iterable[timedelta]) -> str:
    """`p50 | p95 | longest`."""
    seconds = sorted(each.total_seconds() for each in found)
    if len(seconds) < 2:
        return " | ".join([printed(seconds[0]) if seconds else "-"] * 3)
    cut = statistics.quantiles(seconds, n=20, method="inclusive")
    return " | ".join(map(printed, (cut[9], cut[18], seconds[-1])))


def printed(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def fault(cause: str) -> str:
    return FAULTS.get(cause, FAULTS["other"])


def approvals_table(found: Figures) -> list[str]:
    lines = ["| approvals | why | number | whose fault |", "|---|---|---:|---|"]
    for (fate, cause), count in sorted(found.approvals().items(), key=lambda each: (-each[1], each[0])):
        lines.append(f"| {fate} | {cause} | {count} | {fault(cause) if cause else ''} |")
    return [*lines, f"| given | | {len(found.people.votes)} | |"]


def waits_table(found: Figures) -> list[str]:
    lines = [
        "| a target stood | for | times | p50 | p95 | longest | whose fault |",
        "|---|---|---:|---:|---:|---:|---|",
    ]
    for (standing, what), each in sorted(found.waits().items()):
        beside = " beside" if "does not ask" in what else ""
        lines.append(f"| {standing} | {what} | {len(each)} | {spread(each)} | {fault(standing + beside)} |")
    return lines


def people_table(found: Figures) -> list[str]:
    people = found.people
    merged = sum(1 for request in people.requests if request.merged)
    rows = [(f"opened to merged ({merged} of {len(people.requests)} requests)", found.opened_to_merged())]
    rows += [(f"accepted to confirmed: {group}", each) for group, each in sorted(found.leads().items())]
    rows.append(("from the scanner's return until a merge that waited was cleared", found.after_the_scanner()))
    rows += [
        (f"until all approvals were there again after: {why}", each) for why, each in sorted(people.delays.items())
    ]
    lines = ["| how long | times | p50 | p95 | longest |", "|---|---:|---:|---:|---:|"]
    return [*lines, *(f"| {what} | {len(each)} | {spread(each)} |" for what, each in rows)]


def merges_table(found: Figures) -> list[str]:
    verdicts = Counter(each.verdict.value for _, each in found.decisions)
    codes = Counter(reason.code for _, each in found.decisions for reason in each.reasons)
    told = ", ".join(f"{name} {n}" for name, n in codes.most_common())
    refused = ", ".join(f"{n} {name}" for name, n in found.people.refused.most_common())
    lines = ["| merges | |", "|---|---|"]
    lines += [f"| {verdict} | {n} |" for verdict, n in verdicts.most_common()]
    lines.append(f"| codes of those that were not accepted | {told} |")
    lines.append(f"| refused by the hook before they landed | {refused or '-'} |")
    lines.append(f"| time that the history was blocked | {printed(found.blocked().total_seconds())} |")
    unrelated = sum(n for (_, cause), n in found.approvals().items() if cause == "unrelated merges only")
    lines.append(f"| approvals lost to unrelated merges | {unrelated} |")
    return [*lines, f"| approvals lost to a click that changed nothing of what would be merged | {found.needless} |"]


def write(found: Figures, how: str) -> None:
    lines = [
        "# A working week",
        "",
        f"{datetime.now(UTC):%Y-%m-%d}, {report.machine()}; `python benchmarks/working_week.py`: {how}",
        "",
    ]
    lines += ["200 people, 60 targets; hours are of the clock, nights and weekend included.", ""]
    for table in (merges_table, approvals_table, people_table, waits_table):
        lines += [*table(found), ""]
    lines += ["What happened beside:", "", *(f"- {line}" for line in found.people.happened), ""]
    report.RESULTS.mkdir(exist_ok=True)
    (report.RESULTS / "working_week.md").write_text("\n".join(lines))
    print("\n".join(lines))


def _is_there(event: record.Confirmed | record.Outcome) -> bool:
    return isinstance(event, record.Confirmed) or event.closed is model.Closed.SUCCEEDED

"""Who may still merge a head, where the policy's `sod` keeps whoever merges from approving. Pure; not here: whose key is good."""

from __future__ import annotations

from collections.abc import Sequence

from reconciler import model
from reconciler.admission import policy, slots


class Mergers(model.Value):
    """Of those with a key that merges: who may, and who may not because the slots cannot be filled without them."""

    may: tuple[str, ...]
    barred: tuple[str, ...]


def find(
    rules: policy.Policy,
    hits: Sequence[slots.Hit],
    *,
    people: Sequence[str],
    breakers: Sequence[str] = (),
    excluded: frozenset[str] = frozenset(),
) -> Mergers | None:
    """By the approvals that count already where they suffice, else by all that could still come.

    None where `sod` does not name the merger, and where no choice of a merger would help.
    """
    asked = slots.ask(rules, hits, frozenset())
    if not slots.bars_mergers(rules, hits):
        return None
    if slots.fill(asked, people, breakers).missing:
        people = sorted(frozenset().union(*(each.members for each in asked if not each.glass)) - excluded)
        breakers = breakers or sorted(frozenset().union(*(e.members for e in asked if e.glass)) - excluded)
        people = [name for name in people if _has_key(rules, name, "approve")]
        if slots.fill(asked, people, breakers).missing:
            return None
    able = sorted(name for name in {*rules.people, *rules.robots} if _has_key(rules, name, "merge"))
    needed = {*people, *breakers}
    barred = [
        name
        for name in able
        if name in needed and slots.fill(slots.ask(rules, hits, frozenset({name})), people, breakers).missing
    ]
    return Mergers(may=tuple(name for name in able if name not in barred), barred=tuple(barred))


def _has_key(rules: policy.Policy, name: str, use: policy.Use) -> bool:
    holder = rules.people.get(name) or rules.robots[name]
    return any(use in key.use for key in holder.keys)

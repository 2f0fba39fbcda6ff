"""Which commit stands on which: every link is read by our own parser from bytes that were hashed.

A daemon asks the same kind of question again and again: what does this head bring in beside a base that moved on by one
merge? So the ancestors of the base are kept as one set that grows with it. The dates in commits decide nothing here. Where
a set of all ancestors is needed git lists them; its list only ever says *what to read* and *what is not below the base*:
that a commit lies below the base is shown by a walk of ours, and an ancestor that git conceals counts as brought in,
where it is checked like all the rest.
"""

from __future__ import annotations

import contextlib
import re
import threading
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from typing import NamedTuple

from reconciler import errors, model
from reconciler.git import objects, process, trees

SHORT = 64  # commits that are read step by step before git is asked for a list
ANSWERS = 16  # ranges that are kept: one merge asks for the same one several times
GROWN = 100_000  # commits that bases may bring in before the set is begun anew
_AHEAD = 512
_LINKS = 8192  # that are kept, a few hundred bytes each

_TREE_LINE = re.compile(rb"tree ([0-9a-f]{40}|[0-9a-f]{64})\n")
_PARENT_LINE = re.compile(rb"parent ([0-9a-f]{40}|[0-9a-f]{64})\n")


class Links(NamedTuple):
    """What a commit's header points to."""

    tree: model.Oid
    parents: tuple[model.Oid, ...]


def parse_links(raw: bytes, oid: model.Oid) -> Links:
    """Read tree and parents as git does: the first line, then the parent lines that follow it. The rest is not judged here.

    Raises: PermanentError(commit_grammar).
    """
    tree = _TREE_LINE.match(raw)
    if tree is None:
        raise errors.PermanentError("commit_grammar", "the commit does not begin with its tree", where=oid)
    parents: list[model.Oid] = []
    at = tree.end()
    while parent := _PARENT_LINE.match(raw, at):
        parents.append(model.Oid(parent[1].decode()))
        at = parent.end()
    return Links(model.Oid(tree[1].decode()), tuple(parents))


class _Range(NamedTuple):
    """What a head reaches until it comes to the base's ancestors."""

    parents: Mapping[model.Oid, tuple[model.Oid, ...]]  # of each commit that is no ancestor of the base
    beyond: frozenset[model.Oid]  # the ancestors of the base where it stopped
    rooted: bool  # whether it came to a commit without parents


class History:
    """Answers from one store. Many threads may share it; one walks at a time."""

    def __init__(self, reader: objects.ObjectReader, git: process.GitProcess, limits: trees.Limits) -> None:
        self._reader, self._git, self._limits = reader, git, limits
        self._lock = threading.RLock()
        self._links: dict[model.Oid, Links] = {}  # of bytes that were hashed; begun anew when there are many
        self._answers: OrderedDict[tuple[model.Oid, model.Oid], _Range] = OrderedDict()
        self._bases: dict[model.Oid, int] = {}  # each an ancestor of the next, numbered from 1
        # Ancestors of the bases: of the n-th those with a number up to n. 0: so far only git says so.
        # Unless `_whole`, nothing below the first base is in here.
        self._numbers: dict[model.Oid, int] = {}
        self._whole = False
        self._most = GROWN
        self._short = min(SHORT, limits.commits)
        self._edge: list[model.Oid] = []  # reached from the first base by our parser, their parents not yet read
        self._listed: Iterator[model.Oid] = iter(())
        self._listed_read = 0

    def links(self, oid: model.Oid) -> Links:
        known = self._links.get(oid)
        return known or self._parse(oid, self._reader.read(oid, "commit", self._limits.commit_bytes))

    def _parse(self, oid: model.Oid, raw: bytes) -> Links:
        if len(self._links) >= _LINKS:
            self._links = {}
        self._links[oid] = parsed = parse_links(raw, oid)
        return parsed

    def read_ahead(self, oids: Iterable[model.Oid]) -> dict[model.Oid, Links]:
        """The links of those of these that can be read, in bulk. Never raises for an object."""
        found: dict[model.Oid, Links] = {}
        for oid, raw in self._reader.read_ahead(oids, "commit", self._limits.commit_bytes).items():
            with contextlib.suppress(errors.PermanentError):
                found[oid] = self._parse(oid, raw)
        return found

    def is_below(self, oid: model.Oid) -> bool:
        """Whether it is already known for an ancestor of a base that was asked for. A hint for who reads ahead."""
        return oid in self._numbers

    def first_parents(self, tip: model.Oid, after: model.Oid) -> tuple[model.Oid, ...]:
        """As `ports.Repository.first_parents`."""
        self.links(after)
        chain: list[model.Oid] = []
        at = tip
        while at != after and len(chain) < SHORT and (parents := self.links(at).parents):
            chain.append(at)
            at = parents[0]
        return tuple(reversed(chain)) if at == after else self._listed_first_parents(tip, after)

    def brought_in(self, head: model.Oid, base: model.Oid) -> tuple[model.Oid, ...]:
        """As `ports.Repository.brought_in`; the order follows from the history alone.

        Raises: PermanentError(limit) for more commits than the limit.
        """
        return _parents_first(head, self._range(head, base).parents)

    def merge_bases(self, one: model.Oid, other: model.Oid) -> tuple[model.Oid, ...]:
        """As `ports.Repository.merge_bases`; the best of the common ancestors are all among those where the walk stopped."""
        beyond = self._range(other, one).beyond
        bases = sorted(beyond & self._bases.keys(), key=self._bases.__getitem__)
        beyond -= {*bases[:-1]}  # Each base is an ancestor of the next.
        if len(beyond) <= 1:
            return tuple(beyond)
        finished = self._git.run("merge-base", "--all", "--end-of-options", one, other)
        found = tuple(model.Oid(line) for line in finished.stdout.decode().split())
        if finished.code or not found:
            raise errors.TransientError("source_error", f"git merge-base: {finished.complaint}")
        if not beyond.issuperset(found):
            raise _lied(other)
        return found

    # --- the set below the bases -----------------------------------------------------------------------------------

    def _range(self, head: model.Oid, base: model.Oid) -> _Range:
        with self._lock:
            if (head, base) not in self._answers:
                self._stand_on(process.check_oid(base))
                self._answers[head, base] = self._explore(process.check_oid(head), base)
                if len(self._answers) > ANSWERS:
                    self._answers.popitem(last=False)
            return self._answers[head, base]

    def _explore(self, head: model.Oid, base: model.Oid) -> _Range:
        found = self._walk(head, base, self._short)
        if not self._whole and (found is None or found.rooted):
            # Below the first base nothing is known. A walk that missed the bases, and came to where that lies, ends at a
            # commit without parents: from there nobody comes up again. One that ends otherwise has missed nothing.
            self._list_all()
            found = self._walk(head, base, self._short)
        if found is None:
            found = self._walk(head, base, self._limits.commits, self._bulk(head, base))
        if found is None:
            message = f"{head} brings in more than {self._limits.commits} commits"
            raise errors.PermanentError("limit", message, where=head)
        self._confirm(found.beyond)
        return found

    def _walk(
        self, head: model.Oid, base: model.Oid, most: int, known: dict[model.Oid, tuple[model.Oid, ...]] | None = None
    ) -> _Range | None:
        """From head to the ancestors of base; None where more than `most` commits lie between. `known`: read before."""
        number, known = self._bases[base], known or {}
        parents: dict[model.Oid, tuple[model.Oid, ...]] = {}
        beyond: set[model.Oid] = set()
        level = [head]
        while level:
            beyond.update(oid for oid in level if self._numbers.get(oid, number + 1) <= number)
            level = [oid for oid in level if oid not in beyond]
            parents |= {oid: known[oid] for oid in level if oid in known}
            parents |= self._parents_of(oid for oid in level if oid not in known)
            if len(parents) > most:
                return None
            above = dict.fromkeys(parent for oid in level for parent in parents[oid])
            level = [oid for oid in above if oid not in parents and oid not in beyond]
        return _Range(parents, frozenset(beyond), rooted=not all(parents.values()))

    def _bulk(self, head: model.Oid, base: model.Oid) -> dict[model.Oid, tuple[model.Oid, ...]]:
        """The links of what git takes for the range, read in one go."""
        return self._parents_of(self._list(f"--max-count={self._limits.commits + 1}", head, f"^{base}"))

    def _stand_on(self, base: model.Oid) -> None:
        """Make base one of the bases: on top of the newest where it is a descendant of it, else as the first of a new set."""
        if base in self._bases:
            return
        newest = next(reversed(self._bases), None)
        if newest is not None and len(self._numbers) < self._most:
            found = self._walk(base, newest, self._short)
            if found and newest in found.beyond and (self._whole or not found.rooted):
                self._confirm(found.beyond)
                self._bases[base] = len(self._bases) + 1
                self._numbers |= dict.fromkeys(found.parents, self._bases[base])
                return
        self.links(base)
        self._bases, self._numbers, self._edge = {base: 1}, {base: 1}, [base]
        self._whole, self._most, self._listed, self._listed_read = False, GROWN, iter(()), 0

    def _list_all(self) -> None:
        listed = self._list(next(iter(self._bases)))
        for oid in listed:
            self._numbers.setdefault(oid, 0)
        self._whole, self._most, self._listed = True, len(self._numbers) + GROWN, iter(listed)

    def _confirm(self, beyond: Iterable[model.Oid]) -> None:
        """Walk down from the first base with our own parser until all of these are met: git said that it reaches them.

        Raises: AuditError(object_hash) where it does not.
        """
        missing = {oid for oid in beyond if not self._numbers[oid]}
        while missing and self._edge:
            self._listed_read -= len(self._edge)
            if self._listed_read < 0:
                self._listed_read = _AHEAD
                self._reader.read_ahead(islice(self._listed, _AHEAD), "commit", self._limits.commit_bytes)
            above = self._parents_of(self._edge).values()
            self._edge = [oid for oid in dict.fromkeys(p for each in above for p in each) if not self._numbers.get(oid)]
            self._numbers |= dict.fromkeys(self._edge, 1)
            missing.difference_update(self._edge)
        if missing:
            raise _lied(min(missing))

    # --- what git lists --------------------------------------------------------------------------------------------

    def _listed_first_parents(self, tip: model.Oid, after: model.Oid) -> tuple[model.Oid, ...]:
        listed = self._list("--reverse", "--first-parent", tip, f"^{after}")
        before = after
        for oid, parents in self._parents_of(listed).items():
            if parents[:1] != (before,):
                raise self._off_the_chain(tip, after)
            before = oid
        if before != tip:
            raise self._off_the_chain(tip, after)
        return listed

    def _off_the_chain(self, tip: model.Oid, after: model.Oid) -> errors.PermanentError:
        if self._is_ancestor(tip, after):
            return errors.PermanentError("rewind", f"the tip is older than the last accepted commit {after}", where=tip)
        if self._is_ancestor(after, tip):
            return errors.PermanentError(
                "first_parent_broken",
                f"the last accepted commit {after} is reached only through a second parent",
                where=tip,
            )
        return errors.PermanentError(
            "non_descendant", f"the last accepted commit {after} is not in this history", where=tip
        )

    def _is_ancestor(self, one: model.Oid, other: model.Oid) -> bool:
        finished = self._git.run("merge-base", "--is-ancestor", "--end-of-options", one, other)
        if finished.code not in {0, 1}:
            raise errors.TransientError("source_error", f"git merge-base: {finished.complaint}")
        return finished.code == 0

    def _list(self, *arguments: str) -> tuple[model.Oid, ...]:
        printed = self._git.text("rev-list", *arguments, "--")
        return tuple(process.check_oid(line) for line in printed.split())

    def _parents_of(self, oids: Iterable[model.Oid]) -> dict[model.Oid, tuple[model.Oid, ...]]:
        asked = tuple(oids)
        known = self._links
        if all(oid in known for oid in asked):
            return {oid: known[oid].parents for oid in asked}
        read = self._reader.read_many(asked, "commit", self._limits.commit_bytes)
        return {oid: self._parse(oid, raw).parents for oid, raw in read}


def _parents_first(head: model.Oid, parents: Mapping[model.Oid, tuple[model.Oid, ...]]) -> tuple[model.Oid, ...]:
    found: dict[model.Oid, None] = {}
    waiting = [head] if head in parents else []
    while waiting:
        above = [parent for parent in parents[waiting[-1]] if parent in parents and parent not in found]
        if above:
            waiting += reversed(above)
        else:
            found[waiting.pop()] = None
    return tuple(found)


def _lied(oid: model.Oid) -> errors.AuditError:
    return errors.AuditError(
        "object_hash",
        f"what git lists around {oid} is not what the commits say",
        fix="have the mirror fetched anew: reconciler recover --mirror --reason WHY",
    )

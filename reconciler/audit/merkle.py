"""The Merkle tree of RFC 6962 2.1: roots, inclusion and consistency proofs. Pure; where nodes are kept is the caller's business."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from typing import NamedTuple

EMPTY = hashlib.sha256(b"").digest()


class Node(NamedTuple):
    """The root of the complete subtree over the leaves [position << level, (position + 1) << level)."""

    level: int
    position: int
    hash: bytes


Lookup = Callable[[int, int], bytes]  # (level, position) -> hash of a complete subtree; level 0 is a leaf


def leaf(content: bytes) -> bytes:
    return hashlib.sha256(b"\0" + content).digest()


def join(left: bytes, right: bytes) -> bytes:
    return hashlib.sha256(b"\1" + left + right).digest()


def grow(peaks: Sequence[bytes], size: int, added: bytes) -> tuple[tuple[bytes, ...], tuple[Node, ...]]:
    """Add one leaf: the next peaks, and the inner nodes that it completed, lowest first.

    Peaks are the roots of the complete subtrees from left to right, one for each bit of the size. On average one node
    is completed by an append, so the cost does not grow with the log.
    """
    left, top, level, completed = list(peaks), added, 0, []
    while size >> level & 1:
        top, level = join(left.pop(), top), level + 1
        completed.append(Node(level, size >> level, top))
    return (*left, top), tuple(completed)


def root(peaks: Sequence[bytes]) -> bytes:
    if not peaks:
        return EMPTY
    top = peaks[-1]
    for peak in reversed(peaks[:-1]):
        top = join(peak, top)
    return top


def peak_places(size: int) -> tuple[tuple[int, int], ...]:
    """(level, position) of the peaks of a tree, in the order in which `grow` keeps them."""
    return tuple((b, (size >> b) - 1) for b in reversed(range(size.bit_length())) if size >> b & 1)


def inclusion(lookup: Lookup, index: int, size: int) -> tuple[bytes, ...]:
    """PATH(index, D[size]). Raises: ValueError when the tree has no such leaf."""
    if not 0 <= index < size:
        raise ValueError(f"leaf {index} is not in a tree of {size}")
    return _path(lookup, index, 0, size)


def consistency(lookup: Lookup, old: int, new: int) -> tuple[bytes, ...]:
    """PROOF(old, D[new]). Raises: ValueError for an empty old tree, which proves nothing, and for one that is larger."""
    if not 0 < old <= new:
        raise ValueError(f"no proof leads from a tree of {old} to one of {new}")
    return _subproof(lookup, old, (0, new), known=True)


def included(content: bytes, index: int, size: int, proof: Sequence[bytes], top: bytes) -> bool:
    """Whether the leaf of this content is the one at `index` under the root `top` (RFC 9162 2.1.3.2)."""
    if not 0 <= index < size:
        return False
    at, last, running = index, size - 1, leaf(content)
    for sibling in proof:
        if last == 0:
            return False
        if at & 1 or at == last:
            running = join(sibling, running)
            while not at & 1 and at:  # A right edge that has no sibling on these levels.
                at, last = at >> 1, last >> 1
        else:
            running = join(running, sibling)
        at, last = at >> 1, last >> 1
    return last == 0 and running == top


def consistent(old: int, new: int, proof: Sequence[bytes], old_root: bytes, new_root: bytes) -> bool:
    """Whether the new tree only adds to the old one (RFC 9162 2.1.4.2). An empty old tree is never consistent."""
    if not 0 < old <= new:
        return False
    if old == new:
        return not proof and old_root == new_root
    path = list(proof) if old & (old - 1) else [old_root, *proof]
    if not path:
        return False
    at, last = old - 1, new - 1
    while at & 1:
        at, last = at >> 1, last >> 1
    first = second = path[0]
    for sibling in path[1:]:
        if last == 0:
            return False
        if at & 1 or at == last:
            first, second = join(sibling, first), join(sibling, second)
            while not at & 1 and at:
                at, last = at >> 1, last >> 1
        else:
            second = join(second, sibling)
        at, last = at >> 1, last >> 1
    return last == 0 and first == old_root and second == new_root


def subtree(lookup: Lookup, start: int, end: int) -> bytes:
    """MTH(D[start:end]) for the ranges that proofs name: `start` is aligned to the largest complete subtree in it."""
    count = end - start
    if count & (count - 1) == 0:
        level = count.bit_length() - 1
        return lookup(level, start >> level)
    middle = start + _split(count)
    return join(subtree(lookup, start, middle), subtree(lookup, middle, end))


def _split(count: int) -> int:
    """The largest power of two below `count`."""
    return 1 << (count - 1).bit_length() - 1


def _path(lookup: Lookup, index: int, start: int, end: int) -> tuple[bytes, ...]:
    if end - start == 1:
        return ()
    middle = start + _split(end - start)
    if index < middle:
        return (*_path(lookup, index, start, middle), subtree(lookup, middle, end))
    return (*_path(lookup, index, middle, end), subtree(lookup, start, middle))


def _subproof(lookup: Lookup, old: int, span: tuple[int, int], *, known: bool) -> tuple[bytes, ...]:
    """SUBPROOF of RFC 6962 2.1.2. `known`: the verifier has this subtree's root, as it is the old root itself."""
    start, end = span
    if old == end:
        return () if known else (subtree(lookup, start, end),)
    middle = start + _split(end - start)
    if old <= middle:
        return (*_subproof(lookup, old, (start, middle), known=known), subtree(lookup, middle, end))
    return (*_subproof(lookup, old, (middle, end), known=False), subtree(lookup, start, middle))

from __future__ import annotations

import functools
import itertools

import pytest

from reconciler.audit import merkle

LARGEST = 70
CONTENTS = [b"record %d" % i for i in range(LARGEST)]
# The leaves and roots of the test vectors of certificate-transparency (merkle tree, "good" inputs).
VECTORS = [
    ("", "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d"),
    ("00", "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125"),
    ("10", "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77"),
    ("2021", "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7"),
    ("3031", "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4"),
    ("40414243", "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef"),
    ("5051525354555657", "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c"),
    ("606162636465666768696a6b6c6d6e6f", "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328"),
]


def defined(contents: list[bytes]) -> bytes:
    """MTH, word for word from RFC 6962 2.1."""
    if not contents:
        return merkle.EMPTY
    if len(contents) == 1:
        return merkle.leaf(contents[0])
    k = max(1 << i for i in range(10) if 1 << i < len(contents))
    return merkle.join(defined(contents[:k]), defined(contents[k:]))


ROOTS = [defined(CONTENTS[:n]) for n in range(LARGEST + 1)]


@functools.cache
def lookup(level: int, position: int) -> bytes:
    return defined(CONTENTS[position << level : (position + 1) << level])


def test_roots_agree_with_the_vectors_of_certificate_transparency() -> None:
    peaks: tuple[bytes, ...] = ()
    for size, (content, expected) in enumerate(VECTORS):
        peaks, _ = merkle.grow(peaks, size, merkle.leaf(bytes.fromhex(content)))
        assert merkle.root(peaks).hex() == expected


def test_growing_leaf_by_leaf_gives_the_root_that_the_definition_gives() -> None:
    peaks: tuple[bytes, ...] = ()
    stored = {}
    for size, content in enumerate(CONTENTS):
        assert merkle.root(peaks) == ROOTS[size]
        peaks, nodes = merkle.grow(peaks, size, merkle.leaf(content))
        stored.update({(n.level, n.position): n.hash for n in nodes})
        assert peaks == tuple(lookup(*place) for place in merkle.peak_places(size + 1))
    assert all(found == lookup(*place) for place, found in stored.items())
    assert len(stored) == sum(LARGEST >> level for level in range(1, 7)), "each complete subtree once"


def test_every_inclusion_proof_up_to_size_70_verifies_and_no_altered_one_does() -> None:
    for size in range(1, LARGEST + 1):
        for index in range(size):
            proof = merkle.inclusion(lookup, index, size)
            assert merkle.included(CONTENTS[index], index, size, proof, ROOTS[size])
            assert not merkle.included(CONTENTS[index] + b"!", index, size, proof, ROOTS[size])
            assert not merkle.included(CONTENTS[index], index, size, (*proof, bytes(32)), ROOTS[size])
            assert not merkle.included(CONTENTS[index], index, size, proof, ROOTS[size - 1])
            assert not proof or not merkle.included(CONTENTS[index], index, size, proof[:-1], ROOTS[size])


def test_an_inclusion_proof_holds_for_no_other_place() -> None:
    for size in range(1, 20):
        for index, other in itertools.permutations(range(size), 2):
            proof = merkle.inclusion(lookup, index, size)
            assert not merkle.included(CONTENTS[index], other, size, proof, ROOTS[size])


def test_every_consistency_proof_up_to_size_70_verifies_and_no_altered_one_does() -> None:
    for new in range(1, LARGEST + 1):
        for old in range(1, new + 1):
            proof = merkle.consistency(lookup, old, new)
            assert merkle.consistent(old, new, proof, ROOTS[old], ROOTS[new])
            assert not merkle.consistent(old, new, proof, ROOTS[old - 1], ROOTS[new])
            assert not merkle.consistent(old, new, proof, ROOTS[old], ROOTS[new - 1])
            assert not merkle.consistent(old, new, (*proof, bytes(32)), ROOTS[old], ROOTS[new])
            assert not proof or not merkle.consistent(old, new, proof[:-1], ROOTS[old], ROOTS[new])


def test_an_empty_tree_proves_nothing() -> None:
    assert merkle.root(()) == merkle.EMPTY
    assert not merkle.consistent(0, 5, (), merkle.EMPTY, ROOTS[5])
    with pytest.raises(ValueError, match="no proof"):
        merkle.consistency(lookup, 0, 5)


def test_there_is_no_proof_beyond_the_tree() -> None:
    with pytest.raises(ValueError, match="not in a tree"):
        merkle.inclusion(lookup, 5, 5)
    with pytest.raises(ValueError, match="no proof"):
        merkle.consistency(lookup, 6, 5)
    assert not merkle.included(CONTENTS[0], 5, 5, (), ROOTS[5])
    assert not merkle.consistent(6, 5, (), ROOTS[6], ROOTS[5])

from __future__ import annotations

import base64
import os
import subprocess
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support import examples, objects, signing

from reconciler import model
from reconciler.admission import commit, packets, signature

Git = Callable[..., bytes]

KEY = signing.Key("alice")
TREE, ONE, TWO, THREE = (model.Oid(digit * 40) for digit in "abcd")
PERSON = b"Alice <alice@bank.example> 1795000001 +0700"
UNSIGNED = b"tree %s\nparent %s\nauthor %s\ncommitter %s\n\nmessage\n" % (TREE.encode(), ONE.encode(), PERSON, PERSON)
SIGNED = signing.sign_commit(UNSIGNED, KEY)


def parse(raw: bytes) -> commit.Commit | model.Reason:
    return commit.parse_commit(commit.object_id(b"commit", raw), raw)


def code(raw: bytes) -> str:
    found = parse(raw)
    return found.code if isinstance(found, model.Reason) else "good"


@pytest.fixture(scope="module", params=["sha1", "sha256"])
def clone(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Git:
    """A real clone whose commits are signed by ssh-keygen."""
    folder = tmp_path_factory.mktemp("clone")
    KEY.write(folder / "key")
    env = {"PATH": os.environ["PATH"], "HOME": str(folder), "GIT_CONFIG_NOSYSTEM": "1"}
    env |= {f"GIT_{role}_NAME": "Alice Ä" for role in ("AUTHOR", "COMMITTER")}
    env |= {f"GIT_{role}_EMAIL": "alice@bank.example" for role in ("AUTHOR", "COMMITTER")}

    def git(*argv: str) -> bytes:
        options = ("-C", str(folder), "-c", "gpg.format=ssh", "-c", f"user.signingkey={folder / 'key'}")
        return subprocess.run(["git", *options, *argv], check=True, env=env, capture_output=True).stdout

    git("init", "-q", "-b", "main", f"--object-format={request.param}")
    git("commit", "-q", "--allow-empty", "-S", "-m", "root")
    git("commit", "-q", "--allow-empty", "-S", "-m", "one", "-m", "Co-authored-by: Bob B <bob@bank.example>")
    git("checkout", "-q", "-b", "side", "main~1")
    git("commit", "-q", "--allow-empty", "-m", "unsigned")
    git("checkout", "-q", "main")
    git("merge", "-q", "--no-ff", "-S", "-m", "merge", "side")
    return git


def test_commits_of_a_real_git_are_read_as_git_reads_them(clone: Git) -> None:
    for revision in ("main", "main~1", "side"):
        listed = clone("log", "-1", "--format=%H%n%T%n%P%n%an%n%ae%n%at%n%cn%n%ct%n%B", revision).decode()
        oid, tree, parents, *people = listed.split("\n", 8)
        found = commit.parse_commit(model.Oid(oid), clone("cat-file", "commit", revision))
        assert isinstance(found, commit.Commit)
        assert (found.id, found.tree, list(found.parents)) == (oid, tree, parents.split())
        author, committer = found.author, found.committer
        assert [author.name, author.email, str(author.timestamp)] == people[:3]
        assert [committer.name, str(committer.timestamp)] == people[3:5]
        assert found.message == people[5].removesuffix("\n")


def test_signatures_of_a_real_git_are_good_and_an_unsigned_commit_has_none(clone: Git) -> None:
    for revision, signed in (("main", True), ("main~1", True), ("side", False)):
        oid = model.Oid(clone("rev-parse", revision).decode().strip())
        found = commit.parse_commit(oid, clone("cat-file", "commit", revision))
        assert isinstance(found, commit.Commit)
        assert (found.signature is not None) == signed
        if found.signature:
            by = signature.verify(found.payload, found.signature, namespace="git")
            assert isinstance(by, signature.Verified)
            assert by.key_id == KEY.key_id


def test_a_commit_signed_in_the_tests_is_byte_for_byte_what_git_makes(clone: Git) -> None:
    oid = model.Oid(clone("rev-parse", "main").decode().strip())
    raw = clone("cat-file", "commit", "main")
    found = commit.parse_commit(oid, raw)
    assert isinstance(found, commit.Commit)
    assert found.signature
    header = b"gpgsig" if len(oid) == 40 else b"gpgsig-sha256"
    assert signing.insert_signature(found.payload, KEY.armored(found.payload, "git"), header) == raw


def test_the_root_commit_is_no_candidate(clone: Git) -> None:
    oid = model.Oid(clone("rev-parse", "side~1").decode().strip())
    found = commit.parse_commit(oid, clone("cat-file", "commit", oid))
    assert isinstance(found, model.Reason)
    assert (found.code, found.where, found.message) == ("commit_grammar", oid, "line 2: no parent")


def test_an_octopus_is_a_matter_of_parents_and_not_of_grammar() -> None:
    store = objects.ObjectStore()
    root = store.make_commit({"x": b"x"})
    heads = [store.make_commit({name: b"x"}, root) for name in "abc"]
    octopus, twin = store.make_commit({}, *heads, key=KEY), store.make_commit({}, heads[0], heads[0], key=KEY)
    merge = store.make_commit({}, *heads[:2], key=KEY)
    assert [code(store.commit(oid)) for oid in (octopus, twin, merge)] == ["parents", "parents", "good"]


def line(old: bytes, new: bytes) -> bytes:
    assert old in SIGNED
    return SIGNED.replace(old, new, 1)


GRAMMAR = {
    "no empty line": SIGNED.partition(b"\n\n")[0] + b"\n",
    "empty": b"",
    "NUL in the message": SIGNED + b"\0",
    "not UTF-8": SIGNED + b"\xff",
    "short tree": line(TREE.encode(), TREE.encode()[:-1]),
    "upper case": line(TREE.encode(), TREE.upper().encode()),
    "sha256 parent": line(ONE.encode(), b"b" * 64),
    "tree twice": line(b"parent ", b"tree %s\nparent " % TREE.encode()),
    "order": line(b"author ", b"committer "),
    "no author": line(b"author " + PERSON + b"\n", b""),
    "encoding": line(b"gpgsig ", b"encoding ISO-8859-1\ngpgsig "),
    "mergetag": line(b"gpgsig ", b"mergetag object x\n x\ngpgsig "),
    "change-id": line(b"gpgsig ", b"change-id x\ngpgsig "),
    "look-alike": line(b"gpgsig ", b"gpgsigX x\ngpgsig "),
    "header after": line(b"\n\n", b"\nextra x\n\n"),
    "gpgsig of the other format": line(b"gpgsig ", b"gpgsig-sha256 "),
    "second gpgsig": signing.insert_signature(SIGNED, KEY.armored(UNSIGNED, "git")),
    "armor twice": signing.insert_signature(UNSIGNED, KEY.armored(UNSIGNED, "git") * 2),
    "bytes after the armor": signing.insert_signature(UNSIGNED, KEY.armored(UNSIGNED, "git") + b"x\n"),
    "line after the armor": signing.insert_signature(UNSIGNED, KEY.armored(UNSIGNED, "git") + b"\n"),
    "before the armor": line(b"gpgsig ", b"gpgsig  "),
    "empty armor": signing.insert_signature(UNSIGNED, b"\n"),
    "leading zero": line(b"1795000001", b"01795000001"),
    "timestamp zero": line(b"1795000001", b"0"),
    "timestamp beyond 2^40": line(b"1795000001", b"%d" % (commit.MAX_TIMESTAMP + 1)),
    "negative timestamp": line(b"1795000001", b"-1"),
    "zone": line(b"+0700", b"+700"),
    "two spaces": line(b"> 1795", b">  1795"),
    "bracket in the name": line(b"Alice", b"Al<ice"),
    "blank before the name": line(b"author Alice", b"author  Alice"),
    "blank after the name": line(b"Alice <", b"Alice  <"),
    "blank before the e-mail": line(b"<alice", b"< alice"),
    "blank after the e-mail": line(b".example>", b".example\t>"),
    "no space before the address": line(b"Alice <", b"Alice<"),
    "space after": line(b"+0700\n", b"+0700 \n"),
    "carriage return": line(b"+0700\n", b"+0700\r\n"),
}


@pytest.mark.parametrize("case", GRAMMAR)
def test_what_is_outside_the_grammar_is_refused(case: str) -> None:
    assert code(GRAMMAR[case]) == "commit_grammar"


def test_the_edges_of_the_grammar_are_inside_it() -> None:
    assert code(SIGNED) == code(UNSIGNED) == "good"
    assert code(line(b"1795000001", b"1")) == code(line(b"1795000001", b"%d" % commit.MAX_TIMESTAMP)) == "good"
    assert code(line(b"message\n", b"")) == "good"


def test_a_commit_over_64_kib_is_over_the_limit() -> None:
    assert code(UNSIGNED + b"x" * (commit.MAX_BYTES - len(UNSIGNED))) == "good"
    assert code(UNSIGNED + b"x" * (commit.MAX_BYTES - len(UNSIGNED) + 1)) == "limit"


def test_bytes_under_another_id_are_an_alarm() -> None:
    for oid in ("0" * 40, "0" * 64, "", "HEAD"):
        found = commit.parse_commit(model.Oid(oid), SIGNED)
        assert isinstance(found, model.Reason)
        assert found.code == "object_hash"


def pgp(body: bytes, *, crc: bytes | None = None, columns: int = 64, tail: bytes = b"") -> bytes:
    text = base64.b64encode(body)
    lines = [text[at : at + columns] for at in range(0, len(text), columns)]
    end = [b"=" + base64.b64encode(crc)] if crc is not None else []
    return b"\n".join([b"-----BEGIN PGP SIGNATURE-----", b"", *lines, *end, b"-----END PGP SIGNATURE-----", tail])


def test_an_openpgp_armor_has_its_own_form() -> None:
    body = bytes(range(200))
    crc = packets._crc24(body)
    good = [pgp(body), pgp(body, crc=crc), pgp(body, crc=crc, tail=b"\n"), pgp(body, columns=76)]
    bad = [
        pgp(body, crc=b"abc"),
        pgp(body, columns=80),
        pgp(body, tail=b"\n\n"),
        pgp(body, tail=b"x\n"),
        pgp(b""),
        pgp(body).replace(b"\n\n", b"\nVersion: 1\n\n"),
        pgp(body).replace(b"\n\n", b"\n"),
        pgp(body) + pgp(body),
        pgp(body).replace(b"AAEC", b"AAE C"),
    ]
    assert [code(signing.insert_signature(UNSIGNED, armor)) for armor in good] == ["good"] * len(good)
    assert [code(signing.insert_signature(UNSIGNED, armor)) for armor in bad] == ["commit_grammar"] * len(bad)


def test_the_checksum_of_an_armor_is_that_of_the_standard() -> None:
    assert packets._crc24(b"") == bytes.fromhex("b704ce")
    assert packets._crc24(b"123456789") == bytes.fromhex("21cf02")


@pytest.mark.parametrize(
    "message",
    [
        "x\n\nCo-authored-by: Bob <bob@bank.example>\n",
        "co-AUTHORED-by:bob@bank.example",
        "x\n\nCo-authored-by: Bob\n <bob@bank.example>\n\nmore text",
        "> Co-Authored-By : 'Bob' <bob@bank.example>, nobody",
        "Coauthored-by: <bob@bank.example> <bob@bank.example>",
    ],
)
def test_co_authors_are_found_however_they_are_written(message: str) -> None:
    found = parse(UNSIGNED.replace(b"message\n", message.encode()))
    assert isinstance(found, commit.Commit)
    assert found.co_authors == ("bob@bank.example",)


def test_other_addresses_in_a_message_are_no_co_authors() -> None:
    found = parse(UNSIGNED.replace(b"message\n", b"ask bob@bank.example\n\nReviewed-by: Carol <carol@bank.example>\n"))
    assert isinstance(found, commit.Commit)
    assert found.co_authors == ()


def test_flipping_any_bit_of_a_signed_commit_never_verifies() -> None:
    for bit in range(8 * len(SIGNED)):
        flipped = bytearray(SIGNED)
        flipped[bit // 8] ^= 1 << bit % 8
        found = parse(bytes(flipped))
        if isinstance(found, commit.Commit) and found.signature:
            by = signature.verify(found.payload, found.signature, namespace="git")
            assert isinstance(by, model.Reason), bit


_PIECES = st.sampled_from(
    [b"\n", b" ", b"\n\n", b"gpgsig ", b"parent " + TWO.encode() + b"\n", b"<", b"x", b"\0", b"\xff", b"tree ", b"0"]
)


@settings(max_examples=examples.at_least(300), deadline=None)
@given(st.lists(st.tuples(st.integers(0, len(SIGNED)), st.integers(0, 60), _PIECES), min_size=1, max_size=3))
def test_a_commit_that_is_accepted_has_no_bytes_beside_its_values(edits: list[tuple[int, int, bytes]]) -> None:
    raw = SIGNED
    for at, size, piece in edits:
        raw = raw[:at] + piece + raw[at + size :]
    found = parse(raw)
    if isinstance(found, commit.Commit):
        signed = signing.insert_signature(found.payload, found.signature) if found.signature else found.payload
        assert signed == raw
    else:
        assert found.code in {"commit_grammar", "parents"}


@settings(max_examples=examples.at_least(100), deadline=None)
@given(st.binary(max_size=300))
def test_hostile_bytes_are_outside_the_grammar_and_never_raise(raw: bytes) -> None:
    assert code(raw) == code(b"tree " + raw) == "commit_grammar"

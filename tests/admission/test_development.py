"""What a policy may loosen: links inside a target's own folder, and unsigned commits where nothing is at stake (trust.md 4.1, 6.3)."""

from __future__ import annotations

import pytest
from support import estate, objects

from reconciler import documents, errors, model
from reconciler.admission import admit, judging, policy, tree

FOLDER = "targets/ledger"
REAL = f"{FOLDER}/conf/real.conf"


def spec(**defaults: object) -> estate.Spec:
    return {**estate.policy_spec(), "defaults": defaults}


def bank(*, production: bool = False, **defaults: object) -> estate.Estate:
    terms = admit.Terms(production=production)
    return estate.Estate({**estate.targets(), REAL: b"1\n"}, spec(**defaults), terms)


def codes(of: estate.Estate, files: objects.Files) -> set[str]:
    return estate.codes(of.judge(of.change(files)))


def link(to: bytes) -> tuple[str, bytes]:
    return (objects.SYMLINK, to)


# --- links ---


def test_a_link_beside_or_above_a_file_of_its_own_folder_goes_in() -> None:
    of = bank(symlinks="allow")
    assert codes(of, {f"{FOLDER}/conf/link": link(b"real.conf")}) == set()
    assert codes(of, {f"{FOLDER}/link": link(b"conf/real.conf")}) == set()


def test_without_the_policys_word_no_link_goes_in() -> None:
    assert codes(bank(), {f"{FOLDER}/conf/link": link(b"real.conf")}) == {"symlink"}


@pytest.mark.parametrize(
    "to",
    [
        b"/etc/passwd",
        b"../payments/target.yaml",
        b"conf/../target.yaml",
        b"./target.yaml",
        b"conf",  # a folder
        b"conf/",
        b"conf//real.conf",
        b"nothing",
        b"",
        b"target.yaml\0",
        b"conf/" + b"x" * 2000,
    ],
)
def test_a_link_that_leads_anywhere_else_is_refused(to: bytes) -> None:
    assert codes(bank(symlinks="allow"), {f"{FOLDER}/link": link(to)}) == {"symlink"}


@pytest.mark.parametrize(
    "path", ["link", "targets/link", "policies/link.rego", f"{FOLDER}/target.yaml", f"{FOLDER}/.gitattributes"]
)
def test_a_link_elsewhere_than_in_a_targets_folder_is_refused(path: str) -> None:
    of = bank(symlinks="allow")
    merge = of.merge(of.branch({path: link(b"resources.yaml")}))
    of.approve(merge, *estate.SRE, *estate.ADMINS, *estate.SECURITY)
    assert "symlink" in estate.codes(of.judge(of.push(merge)))


def test_a_chain_of_links_is_refused() -> None:
    chain = {f"{FOLDER}/one": link(b"two"), f"{FOLDER}/two": link(b"resources.yaml")}
    assert codes(bank(symlinks="allow"), chain) == {"symlink"}
    assert codes(bank(symlinks="allow"), {f"{FOLDER}/x": link(b"x")}) == {"symlink"}


def test_the_file_of_a_link_cannot_go_without_it() -> None:
    of = bank(symlinks="allow")
    first = of.change({f"{FOLDER}/link": link(b"conf/real.conf")})
    gone = of.change({REAL: None})
    assert estate.codes(of.judge(gone, after=first)) == {"symlink"}


def test_a_driver_sees_what_the_link_leads_to_and_the_digest_holds_both() -> None:
    of = bank(symlinks="allow")
    merge = of.change({f"{FOLDER}/link": link(b"conf/real.conf")})
    read = documents.read_target(of.store, merge, "ledger")
    assert read is not None
    assert (read.desired.payload["link"], read.desired.payload["conf/real.conf"]) == (b"1\n", b"1\n")
    moved = of.store.make_commit({REAL: b"2\n"}, merge)
    other = documents.read_target(of.store, moved, "ledger")
    assert other is not None
    assert other.desired.payload["link"] == b"2\n"
    assert other.desired.digest != read.desired.digest


def test_a_link_that_nobody_judged_is_not_followed() -> None:
    of = bank(symlinks="allow")
    hostile = of.store.make_commit({f"{FOLDER}/link": link(b"../payments/target.yaml")}, of.tip)
    with pytest.raises(errors.ConfigError) as refused:
        documents.read_target(of.store, hostile, "ledger")
    assert (refused.value.code, refused.value.where) == ("symlink", f"{FOLDER}/link")


def test_a_genesis_with_links_is_judged_like_a_merge() -> None:
    whole = objects_tree({f"{FOLDER}/link": link(b"nothing")})
    assert {r.code for r in tree.look_at_links(whole[0], (b"targets",), whole[1].read)} == {"symlink"}


def objects_tree(files: objects.Files) -> tuple[model.Tree, objects.ObjectStore]:
    store = objects.ObjectStore()
    return store.tree(store.make_commit(files)), store


# --- unsigned commits ---


def unsigned(of: estate.Estate, *approvers: str, signer: str = "forge") -> set[str]:
    merge = of.merge(of.branch({f"{FOLDER}/resources.yaml": estate.resources(2)}, signer=""), signer=signer)
    of.approve(merge, *approvers)
    return estate.codes(of.judge(of.push(merge)))


def test_an_unsigned_commit_goes_in_where_a_development_policy_says_so() -> None:
    assert unsigned(bank(requireSignedCommits=False), *estate.SRE) == set()
    assert unsigned(bank(), *estate.SRE) == {"unsigned_commit"}


def test_a_daemon_in_production_never_takes_one_whatever_the_policy_says() -> None:
    assert unsigned(bank(production=True, requireSignedCommits=False), *estate.SRE) == {"unsigned_commit"}


def test_whom_an_unsigned_commit_names_approves_nothing_of_it() -> None:
    assert "author_in_range" in unsigned(bank(requireSignedCommits=False), "alice", "bob")


def test_the_merge_is_signed_and_a_bad_signature_is_bad_all_the_same() -> None:
    of = bank(requireSignedCommits=False)
    assert unsigned(of, *estate.SRE, signer="") == {"unsigned_merge"}
    of = bank(requireSignedCommits=False)
    merge = of.merge(of.branch({f"{FOLDER}/resources.yaml": estate.resources(2)}, signer="mallory"))
    of.approve(merge, *estate.SRE)
    assert estate.codes(of.judge(of.push(merge))) == {"sig_key_unknown"}


def test_the_loosened_policy_lints_in_development_alone() -> None:
    of = bank(requireSignedCommits=False)
    loosened = policy.parse_policy(estate.policy_blob(of.spec))
    assert not loosened.defaults.require_signed_commits
    change = {estate.POLICY_PATH: estate.policy_blob(spec(requireSignedCommits=False))}
    strict = bank(production=True)
    merge = strict.change(change, approvers=(*estate.ADMINS, "bob"))
    assert estate.codes(strict.judge(merge)) == {"policy_lint"}
    lenient = bank()
    merge = lenient.change(change, approvers=(*estate.ADMINS, "bob"))
    assert lenient.judge(merge).verdict is model.Verdict.ACCEPT
    assert {"policy_lint"} <= judging.REJECT

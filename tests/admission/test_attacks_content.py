"""Trees and documents that may not come in: the cases of the attack catalogue (trust.md 8) that lie in content."""

from __future__ import annotations

import pytest
from support import estate, objects

from reconciler import model
from reconciler.admission import judging

HOLD, REJECT, ACCEPT = model.Verdict.HOLD, model.Verdict.REJECT, model.Verdict.ACCEPT
FOLDER = "targets/ledger"


@pytest.fixture
def bank() -> estate.Estate:
    return estate.Estate(estate.targets())


def test_a_plain_file_is_the_honest_twin(bank: estate.Estate) -> None:
    assert bank.judge(bank.change({f"{FOLDER}/résumé.yaml": b"{}"})).verdict is ACCEPT


@pytest.mark.parametrize(
    ("files", "code"),
    [
        ({f"{FOLDER}/x": (objects.SYMLINK, b"/etc/passwd")}, "symlink"),
        ({f"{FOLDER}/x": (objects.SYMLINK, b"../payments/target.yaml")}, "symlink"),
        ({f"{FOLDER}/x": (objects.GITLINK, b"1" * 40)}, "gitlink"),
        ({".gitmodules": b'[submodule "x"]\n\turl = ext::sh -c id\n'}, "gitlink"),
        ({f"{FOLDER}/x": ("100664", b"{}")}, "tree_mode"),
        ({f"{FOLDER}/.git/config": b"x"}, "fsck"),
        ({f"{FOLDER}/.GIT/config": b"x"}, "fsck"),
        ({f"{FOLDER}/git~1/config": b"x"}, "fsck"),
        ({f"{FOLDER}/.g\u200cit/config": b"x"}, "fsck"),
        ({f"{FOLDER}/.git . /config": b"x"}, "fsck"),
        ({f"{FOLDER}/.git::$INDEX_ALLOCATION/x": b"x"}, "fsck"),
        ({f"{FOLDER}/RESOURCES.yaml": b"{}"}, "path_collision"),
        ({"Targets/ledger/other.yaml": b"{}"}, "path_collision"),
        ({f"{FOLDER}/ſ.yaml": b"{}", f"{FOLDER}/s.yaml": b"{}"}, "path_collision"),
        ({f"{FOLDER}/e\u0301.yaml": b"{}"}, "path_chars"),
        ({f"{FOLDER}/\u202egpj.yaml": b"{}"}, "path_chars"),
        ({f"{FOLDER}/a\nb": b"{}"}, "path_chars"),
        ({b"targets/ledger/\xff": b"{}"}, "path_chars"),
        ({f"{FOLDER}/{'a/' * 32}x": b"{}"}, "limit"),
        ({f"{FOLDER}/{'a' * 250}/{'b' * 250}/{'c' * 250}/{'d' * 255}/e": b"{}"}, "limit"),
        ({f"{FOLDER}/x": b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n"}, "lfs"),
        ({f"{FOLDER}/x": b"a" * ((1 << 20) + 1)}, "limit"),
    ],
)
def test_c50_to_c62_what_may_not_stand_in_a_tree(bank: estate.Estate, files: objects.Files, code: str) -> None:
    head = bank.branch(files)
    merge = bank.merge(head, tree=bank.store.tree_id(head))
    decision = bank.judge(merge)
    assert (decision.verdict, code in estate.codes(decision)) == (REJECT, True), decision.reasons
    assert decision.canonical(), "it can be recorded"


def test_an_entry_called_dot_dot(bank: estate.Estate) -> None:
    blob = bank.store.add(b"blob", b"{}")
    inner = bank.store.add(b"tree", b"100644 ..\0" + bytes.fromhex(blob))
    tree = bank.store.add(b"tree", b"40000 x\0" + bytes.fromhex(inner))
    head = bank.store.make_commit({}, bank.tip, key=estate.key("alice"), tree=tree)
    assert "fsck" in estate.codes(bank.judge(bank.merge(head, tree=tree)))


def test_too_many_files(bank: estate.Estate) -> None:
    spec = estate.policy_spec()
    spec["defaults"] = {"maxFiles": 12}
    small = estate.Estate(estate.targets(), spec=spec)
    assert small.judge(small.change({"targets/ledger/a": b""})).verdict is ACCEPT
    assert estate.codes(small.judge(small.change({f"targets/ledger/{n}": b"" for n in range(9)}))) == {"limit"}


def test_c54_a_protected_file_that_is_moved_out_is_deleted_where_it_was(bank: estate.Estate) -> None:
    moved = {f"{FOLDER}/resources.yaml": None, "elsewhere.yaml": estate.resources(1)}
    assert estate.codes(bank.judge(bank.change(moved, approvers=["bob"]))) == {"threshold"}
    assert bank.judge(bank.change(moved)).verdict is ACCEPT


def test_c55_a_mode_alone_is_a_change(bank: estate.Estate) -> None:
    made = {f"{FOLDER}/resources.yaml": (objects.EXECUTABLE, estate.resources(1))}
    decision = bank.judge(bank.change(made, approvers=["bob"]))
    assert (estate.codes(decision), set(decision.targets)) == ({"threshold"}, {"ledger"})


@pytest.mark.parametrize(
    "blob",
    [
        b"a: &a [x, x]\nb: [*a, *a]\n",
        b"!!python/object/apply:os.system [id]\n",
        b"spec: {}\nspec: {}\n",
        b"---\n" * 100_000,
        b"spec: {environment: \0}\n",
        b"spec:\n\tenvironment: prod\n",
        b"[" * 10_000,
    ],
)
def test_c63_unsafe_yaml_in_a_touched_document(bank: estate.Estate, blob: bytes) -> None:
    merge = bank.change({f"{FOLDER}/target.yaml": blob})
    decision = bank.judge(merge)
    assert (decision.verdict, "parse" in estate.codes(decision)) == (REJECT, True)


def test_a_document_without_a_readable_shape_counts_as_every_environment(bank: estate.Estate) -> None:
    merge = bank.change({"targets/sandbox/target.yaml": b"spec: [1]\n"})
    decision = bank.judge(merge)
    assert estate.codes(decision) == {"threshold"}, "of security, for the rule `net`"
    bank.approve(merge, "carol")
    assert bank.judge(merge).verdict is ACCEPT, "its shape is the gate `schema`'s to refuse"


def test_c78_an_environment_that_the_policy_does_not_name(bank: estate.Estate) -> None:
    decision = bank.judge(bank.change(estate.target("ledger", "prd")))
    assert (decision.verdict, "environment" in estate.codes(decision)) == (REJECT, True)


def test_a_target_that_moves_between_environments_concerns_both(bank: estate.Estate) -> None:
    decision = bank.judge(bank.change(estate.target("ledger", "dev"), approvers=["bob"]))
    assert estate.codes(decision) >= {"threshold"}
    assert bank.judge(bank.change(estate.target("ledger", "dev"))).verdict is ACCEPT


def test_the_approval_policy_may_not_go(bank: estate.Estate) -> None:
    decision = bank.judge(bank.change({estate.POLICY_PATH: None}, approvers=["bob", *estate.ADMINS]))
    assert (decision.verdict, estate.codes(decision)) == (REJECT, {"policy_lint"})


@pytest.mark.parametrize("blob", [b"spec: {a: 1, a: 2}\n", b"kind: ApprovalPolicy\n", b"\xff"])
def test_a_policy_that_cannot_be_read_does_not_come_in(bank: estate.Estate, blob: bytes) -> None:
    decision = bank.judge(bank.change({estate.POLICY_PATH: blob}, approvers=["bob", *estate.ADMINS]))
    assert decision.verdict is REJECT
    assert estate.codes(decision) <= {"policy_lint", "parse"}


def test_a_rego_file_may_come_and_go_with_the_rule_meta(bank: estate.Estate) -> None:
    assert estate.codes(bank.judge(bank.change({"policies/x.rego": b"package x"}))) == {"threshold"}
    assert bank.judge(bank.change({"policies/y.rego": b""}, approvers=["bob", *estate.ADMINS])).verdict is ACCEPT


def test_c62_what_is_too_long_for_a_record_is_cut_and_kept_as_evidence(bank: estate.Estate) -> None:
    files = {f"{FOLDER}/bad\n{n}" + "x" * 200: b"{}" for n in range(300)}
    merge = bank.merge(bank.branch(files))
    judged = judging.examine(bank.store, merge, bank.known(), terms=bank.terms, now=estate.NOW)
    assert judged.decision.verdict is REJECT
    assert len(judged.decision.canonical()) < 1 << 16
    assert len(judged.evidence) == 1


def test_a_merge_of_more_targets_than_a_record_holds_is_refused(bank: estate.Estate) -> None:
    files = {path: blob for n in range(700) for path, blob in estate.target(f"t{n}", "dev").items()}
    decision = bank.judge(bank.change(files, approvers=["bob"]))
    assert (decision.verdict, estate.codes(decision)) == (REJECT, {"limit"})


def test_an_object_that_is_missing_holds_and_one_that_lies_stops() -> None:
    bank = estate.Estate(estate.targets())
    merge = bank.change({f"{FOLDER}/x": b"unique"})
    entry = bank.store.tree(merge)[f"{FOLDER}/x".encode()]
    bank.store.lose(entry.oid)
    decision = bank.judge(merge)
    assert (decision.verdict, estate.codes(decision)) == (HOLD, {"source_error"})

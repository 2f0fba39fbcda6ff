"""Trees that may not come in, and content that is not what it was taken for."""

from __future__ import annotations

from support import estate, objects
from support.catalogue import HOLD, NOBODY, REJECT, SANDBOX, Offer, Offers, Table

from reconciler import model

case = Table()
FOLDER = "targets/ledger"
PLAIN = {f"{FOLDER}/résumé.yaml": b"{}"}
EXT = b'[submodule "x"]\n\tpath = x\n\turl = ext::sh -c id\n'


def _offers(bank: estate.Estate, files: objects.Files) -> Offers:
    """These files, and then one that may stand there."""
    for each in (files, PLAIN):
        head = bank.branch(each)
        merge = bank.merge(head, tree=bank.store.tree_id(head))
        bank.approve(merge, *estate.SRE)
        yield Offer(bank, merge)


@case("C48", HOLD, "stale_effect", *NOBODY, in_git=False, over=("targets/ledger/resources.yaml", "README"))
def two_blobs_with_one_name(bank: estate.Estate, place: str) -> Offers:
    """Git knows a blob by SHA-1; the approvals bind its SHA-256, so another blob of that name is another effect."""
    path = place.encode()
    merge = bank.change({place: estate.resources(2)})
    store = bank.store
    oid = store.tree(merge)[path].oid
    kept = store._sha256[oid]
    store._forget()
    store._sha256[oid] = model.sha256(b"its twin in SHA-1")
    yield Offer(bank, merge)
    store._forget()
    assert store.tree(merge)[path].sha256 == kept
    yield Offer(bank, merge)


@case("C50", REJECT, "symlink", over=(b"/etc/passwd", b"../payments/target.yaml", b"resources.yaml"))
def a_symlink(bank: estate.Estate, to: bytes) -> Offers:
    yield from _offers(bank, {f"{FOLDER}/x": (objects.SYMLINK, to)})


DOT_GIT = (".git", ".GIT", "git~1", ".g\u200cit", ".git . ", ".git::$INDEX_ALLOCATION", "\uff0egit", ".git\\x")


@case("C51", REJECT, "fsck", over=DOT_GIT)
def a_name_that_some_system_takes_for_dot_git(bank: estate.Estate, name: str) -> Offers:
    yield from _offers(bank, {f"{FOLDER}/{name}/config": b"x"})


@case("C51", REJECT, "fsck", over=(b"..", b"."))
def an_entry_that_leads_elsewhere(bank: estate.Estate, name: bytes) -> Offers:
    blob = bank.store.add(b"blob", b"{}")
    inner = bank.store.add(b"tree", b"100644 " + name + b"\0" + bytes.fromhex(blob))
    tree = bank.store.add(b"tree", b"40000 x\0" + bytes.fromhex(inner))
    head = bank.store.make_commit({}, bank.tip, key=estate.key("alice"), tree=tree)
    merge = bank.merge(head, tree=tree)
    bank.approve(merge, *estate.SRE, *estate.ADMINS, *estate.SECURITY)
    yield Offer(bank, merge)
    yield Offer(bank, bank.change(PLAIN))


COLLISIONS: tuple[objects.Files, ...] = (
    {f"{FOLDER}/RESOURCES.yaml": b"{}"},
    {"Targets/ledger/other.yaml": b"{}"},
    {f"{FOLDER}/ſ.yaml": b"{}", f"{FOLDER}/s.yaml": b"{}"},
    {f"{FOLDER}/ﬁ.yaml": b"{}", f"{FOLDER}/fi.yaml": b"{}"},
)


@case("C52", REJECT, "path_collision", over=COLLISIONS)
def two_names_that_some_system_takes_for_one(bank: estate.Estate, files: objects.Files) -> Offers:
    yield from _offers(bank, files)


@case("C52", REJECT, "path_chars")
def a_name_in_the_other_form_of_unicode(bank: estate.Estate) -> Offers:
    yield from _offers(bank, {f"{FOLDER}/re\u0301sume\u0301.yaml": b"{}"})


@case("C53", REJECT, "path_chars", over=("\u202egpj.yaml".encode(), b"a\nb", b"a\x7fb", b"\xff", b"\xc0\xaf"))
def a_name_that_does_not_show_what_it_is(bank: estate.Estate, name: bytes) -> Offers:
    yield from _offers(bank, {FOLDER.encode() + b"/" + name: b"{}"})


@case("C54", HOLD, "threshold")
def a_protected_file_is_moved_out_and_edited_elsewhere(bank: estate.Estate) -> Offers:
    moved = {f"{FOLDER}/resources.yaml": None, "elsewhere.yaml": estate.resources(1)}
    merge = bank.change(moved, approvers=["bob"])
    yield Offer(bank, merge)
    bank.approve(merge, "grace")
    yield Offer(bank, merge)


@case("C55", HOLD, "threshold")
def a_mode_alone_is_a_change(bank: estate.Estate) -> Offers:
    merge = bank.change({f"{FOLDER}/resources.yaml": (objects.EXECUTABLE, estate.resources(1))}, approvers=["bob"])
    yield Offer(bank, merge)
    bank.approve(merge, "grace")
    yield Offer(bank, merge)


@case("C55", HOLD, "threshold")
def a_file_that_becomes_a_folder_is_a_change(bank: estate.Estate) -> Offers:
    files = {f"{FOLDER}/resources.yaml": None, f"{FOLDER}/resources.yaml/x": b"{}"}
    merge = bank.change(files, approvers=["bob"])
    yield Offer(bank, merge)
    bank.approve(merge, "grace")
    yield Offer(bank, merge)


@case("C55", REJECT, "tree_mode")
def a_mode_that_git_does_not_write(bank: estate.Estate) -> Offers:
    yield from _offers(bank, {f"{FOLDER}/x": ("100664", b"{}")})


@case("C56", REJECT, "gitlink")
def a_gitlink(bank: estate.Estate) -> Offers:
    yield from _offers(bank, {f"{FOLDER}/x": (objects.GITLINK, b"1" * 40)})


@case("C56", REJECT, "gitlink", over=(EXT, EXT.replace(b"ext::sh -c id", b"--upload-pack=id"), b"file:///etc\n"))
def a_list_of_submodules(bank: estate.Estate, blob: bytes) -> Offers:
    yield from _offers(bank, {".gitmodules": blob})


@case("C61", REJECT, "lfs")
def a_pointer_to_a_large_file(bank: estate.Estate) -> Offers:
    pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n"
    yield from _offers(bank, {f"{FOLDER}/x": pointer})


YAML = (
    b"a: &a [x, x]\nb: [*a, *a]\n",
    b"!!python/object/apply:os.system [id]\n",
    b"spec: {}\nspec: {}\n",
    b"---\n" * 100_000,
    b"spec: {environment: \0}\n",
    b"spec:\n\tenvironment: prod\n",
    b"[" * 10_000,
)


@case("C63", REJECT, "parse", over=YAML)
def yaml_that_is_more_than_a_document(bank: estate.Estate, blob: bytes) -> Offers:
    """What cannot be read counts as every environment and type, so everybody who could be asked has approved."""
    merge = bank.merge(bank.branch({f"{FOLDER}/target.yaml": blob}))
    bank.approve(merge, *estate.SRE, "carol", "erin")
    yield Offer(bank, merge)
    yield Offer(bank, bank.change(SANDBOX, approvers=["bob"]))

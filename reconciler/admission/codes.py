"""Every code that a verdict may carry: its class, what it says, and what to do next (trust.md 2.4).

The class belongs to the code. `namespace` and `limit` stand twice: they reject a commit and hold an approval. The page
docs/reference/verdicts.md is made of this table, and a reason that brings no advice of its own gets the one that stands here.
"""

from __future__ import annotations

import re
from typing import Literal, NamedTuple

from reconciler.model import Verdict

Group = Literal["history", "store", "log", "form", "signature", "policy", "approval", "other"]


class Code(NamedTuple):
    name: str
    group: Group
    says: str
    fix: str

    @property
    def verdict(self) -> Verdict:
        return _CLASSES[self.group]


_CLASSES: dict[Group, Verdict] = {
    "history": Verdict.HALT,
    "store": Verdict.HALT,
    "log": Verdict.HALT,
    "form": Verdict.REJECT,
    "signature": Verdict.REJECT,
    "policy": Verdict.REJECT,
    "approval": Verdict.HOLD,
    "other": Verdict.HOLD,
}
_TITLES: dict[Group, str] = {
    "history": "HALT: the history was rewritten",
    "store": "HALT: the mirror is not what it should be",
    "log": "HALT: the audit log is not what it should be",
    "form": "REJECT: the form of the merge and of its tree",
    "signature": "REJECT: signatures",
    "policy": "REJECT: the rules themselves",
    "approval": "HOLD: approvals",
    "other": "HOLD: anything else that may still change",
}
_CONSEQUENCES: dict[Group, str] = {
    "history": "Admission stops. Targets are kept at the last accepted state; it ends by itself when the history is whole again.",
    "store": "Nothing is written until a person has looked.",
    "log": "Nothing is written until a person has looked.",
    "form": "This commit can never be accepted as it is. Mend the branch and merge again; `reconciler recover` clears the way.",
    "signature": "This commit can never be accepted as it is. Sign again, with a key that the policy lists.",
    "policy": "This commit can never be accepted as it is.",
    "approval": "One more approval, or a new one, may still let it in. Said where a slot is open.",
    "other": "It is judged again at the next poll.",
}
_RESTORE = "push a descendant of the last accepted commit again, or move the pin with a reason (source.genesisReason)"
_RESIGN = "sign with a key that the policy lists for this use"
_AGAIN = "approve again: reconciler approve HEAD --key KEY --push"
_OTHERS = "ask somebody else of the team: reconciler approve HEAD --key KEY --push"

_LAST = ", where A is the last accepted commit"
_UNTOLD = re.compile(r"\breconciler (approve|emergency) HEAD\b")
_DIGITS = 12

_MIRROR = "find out who wrote it; stop the daemon, then reconciler recover --mirror --reason WHY"

TABLE = (
    Code("rewind", "history", "The watched branch is older than the last accepted commit.", _RESTORE),
    Code("non_descendant", "history", "The watched branch does not hold the last accepted commit.", _RESTORE),
    Code("ref_missing", "history", "The forge answered, and has no such branch any more.", _RESTORE),
    Code(
        "first_parent_broken", "history", "The last accepted commit is reached only through a second parent.", _RESTORE
    ),
    Code(
        "pin",
        "history",
        "The pinned genesis moved without a reason of its own.",
        "put it back, or say why in source.genesisReason",
    ),
    Code(
        "object_hash",
        "store",
        "An object's bytes do not have the id they were asked for by.",
        _MIRROR,
    ),
    Code(
        "repo_config",
        "store",
        "The mirror's configuration, grafts, alternates or a shallow file are not ours.",
        _MIRROR,
    ),
    Code(
        "log_broken",
        "log",
        "A record does not follow from the one before it.",
        "reconciler audit verify; restore the newest backup, or reconciler recover --log --reason WHY",
    ),
    Code(
        "log_truncated",
        "log",
        "The log is shorter than its newest checkpoint.",
        "restore the newest backup, then reconciler recover --log --checkpoint FILE --reason WHY",
    ),
    Code(
        "log_forked",
        "log",
        "Two checkpoints of the log contradict each other.",
        "keep both, and find out who has the key of the log",
    ),
    Code(
        "log_foreign_row",
        "log",
        "A row lies beyond the newest checkpoint.",
        "find out who writes to the database; reconciler recover --log --reason WHY goes on without that row",
    ),
    Code("anchor", "log", "The anchored checkpoints were rewritten.", "find out who forced the ref of the anchor"),
    Code(
        "commit_grammar",
        "form",
        "The raw commit has headers, bytes or an armor outside the strict grammar.",
        "make the commit again with a stock git",
    ),
    Code("parents", "form", "Three parents or more, or the same one twice.", "merge one branch at a time"),
    Code(
        "direct_commit",
        "form",
        "One parent: a push, a fast-forward, a squash or a rebase.",
        "merge with --no-ff, or reconciler merge HEAD --key KEY --push",
    ),
    Code("merge_base", "form", "The two sides have no merge base, or several.", "rebase the branch"),
    Code("nothing_merged", "form", "Everything in the branch was merged before.", "commit something new"),
    Code(
        "limit",
        "form",
        "Too many files, too large a file, too deep a tree, too many commits or targets.",
        "merge it in parts, or keep large files elsewhere",
    ),
    Code(
        "fsck",
        "form",
        "A name that leads elsewhere, or that some system takes for `.git`.",
        "take it out of the branch",
    ),
    Code("tree_mode", "form", "A file mode other than 100644 and 100755.", "git update-index --chmod"),
    Code(
        "symlink",
        "form",
        "A symbolic link where the policy allows none, or one that leads to no file of its own target's folder.",
        "put the file itself there",
    ),
    Code("gitlink", "form", "A submodule, or a file that lists submodules.", "put the files themselves there"),
    Code("lfs", "form", "A pointer to a large file instead of the file.", "git lfs untrack, and commit the file"),
    Code(
        "path_chars",
        "form",
        "Control, bidirectional or invalid characters in a name, or another form than NFC.",
        "rename the file",
    ),
    Code("path_collision", "form", "Two names that some file systems take for one.", "rename one of them"),
    Code(
        "parse",
        "form",
        "Unsafe YAML in a touched document: tags, anchors, duplicate keys, bombs, size.",
        "write it plainly; the reason names the line",
    ),
    Code(
        "environment",
        "form",
        "A target's environment that the policy does not name.",
        "correct it, or add the environment to the policy first",
    ),
    Code(
        "unsigned_merge",
        "signature",
        "The merge commit is not signed.",
        "reconciler merge HEAD --key KEY --push, or let the forge sign its merges",
    ),
    Code(
        "unsigned_commit",
        "signature",
        "A commit of the branch is not signed.",
        "git rebase --exec 'git commit --amend --no-edit -S'",
    ),
    Code(
        "sig_invalid",
        "signature",
        "The signature is not good, or not of these bytes.",
        "sign again: git commit --amend --no-edit -S",
    ),
    Code(
        "sig_key_unknown",
        "signature",
        "The key is nobody's in the policy in force.",
        "add the key to the policy first, in a merge of its own",
    ),
    Code(
        "sig_key_expired",
        "signature",
        "The key had ended when the merge was first seen.",
        "add a new key to the policy, and sign again",
    ),
    Code("sig_key_revoked", "signature", "The key was revoked before the merge was first seen.", _RESIGN),
    Code(
        "weak_alg",
        "signature",
        "An algorithm, a hash or a key size that is not allowed.",
        "use ed25519, ECDSA P-256 or P-384, or RSA of 3072 bits with SHA-2",
    ),
    Code("multi_sig", "signature", "More than one signature.", "sign once, with one key"),
    Code("namespace", "signature", "Signed for another purpose than a commit.", "sign with git commit -S"),
    Code("role", "signature", "The key has not the use that this needs: `commit`, or `merge`.", _RESIGN),
    Code("robot_scope", "signature", "A robot changed a path that is not among its own.", "let a person commit it"),
    Code(
        "unknown_identity",
        "signature",
        "The address of an author or committer is nobody's in the policy.",
        "git config user.email, to an address that the policy lists",
    ),
    Code(
        "policy_lint",
        "policy",
        "The approval policy is missing, cannot be read, or may not be as it is.",
        "reconciler policy lint",
    ),
    Code(
        "denied",
        "policy",
        "A commit, key or person on the deny list of the daemon's configuration.",
        "ask the operators: source.denied",
    ),
    Code("no_approval", "approval", "Nobody's approval counts.", "reconciler approve HEAD --key KEY --push"),
    Code("self_approval", "approval", "The approver made every commit of the change.", _OTHERS),
    Code("author_in_range", "approval", "The approver signed, or is named in, a commit of the change.", _OTHERS),
    Code("threshold", "approval", "A rule needs more people than have approved.", _OTHERS),
    Code(
        "distinct_persons", "approval", "Each rule alone could be filled, but only by counting somebody twice.", _OTHERS
    ),
    Code(
        "level",
        "approval",
        "The approval is of a lower level than the rule asks for.",
        "sign it: reconciler approve HEAD --key KEY --push",
    ),
    Code("robot_not_approver", "approval", "A robot signed the approval; no robot ever approves.", _OTHERS),
    Code(
        "rejected",
        "approval",
        "Somebody who could fill a slot speaks against it, or did so after approving.",
        "talk to them; they approve again, or take it back: reconciler approve HEAD --revoke SHA256 --key KEY --push",
    ),
    Code("approval_revoked", "approval", "The approval was taken back.", _OTHERS),
    Code("stale_head", "approval", "The approval is of another head: the branch was amended.", _AGAIN),
    Code(
        "stale_effect",
        "approval",
        "The approval is of another effect: something that the change touches has moved.",
        _AGAIN,
    ),
    Code(
        "ack_manual_merge",
        "approval",
        "The merge is not the automatic one, and the approval does not say that this was seen.",
        "read the merge, then reconciler approve HEAD --ack-manual-merge --key KEY --push",
    ),
    Code("repo_id", "approval", "The approval is for another repository.", _AGAIN),
    Code("ref", "approval", "The approval is for another branch.", _AGAIN),
    Code("environments", "approval", "The approval names other environments than the change touches.", _AGAIN),
    Code(
        "ttl",
        "approval",
        "The approval has no expiry, has expired, or is valid for longer than the policy allows.",
        _AGAIN,
    ),
    Code("subject", "approval", "The statement has not exactly one subject, the effect.", _AGAIN),
    Code(
        "envelope_invalid",
        "approval",
        "The envelope or its statement is not in its one form, or its signature is not good.",
        _AGAIN,
    ),
    Code("namespace", "approval", "The statement was signed for another purpose.", _AGAIN),
    Code(
        "key_unknown",
        "approval",
        "The approver's key is nobody's, or may not approve.",
        "add the key to the policy first, in a merge of its own",
    ),
    Code(
        "key_expired",
        "approval",
        "The approver's key had ended when the approval was first seen.",
        "add a new key to the policy, and approve again",
    ),
    Code("key_revoked", "approval", "The approver's key was revoked, or is denied.", _OTHERS),
    Code("no_user_presence", "approval", "The hardware key was not touched.", _AGAIN),
    Code(
        "blocked",
        "other",
        "It stands on commits that were not accepted.",
        "reconciler recover --after A --key KEY --push" + _LAST,
    ),
    Code(
        "emergency_scope",
        "other",
        "An emergency statement beyond what the policy allows: expired, too long, without incident, about something else, too "
        "many in a week, or about the policies.",
        "within its scope: reconciler emergency HEAD --incident INC --reason WHY --key KEY --push; or get the usual approvals",
    ),
    Code(
        "policy_expired",
        "other",
        "The approval policy has expired: only changes of the policies go in.",
        "renew it by a policy change",
    ),
    Code(
        "source_error",
        "other",
        "An object or the forge could not be read.",
        "see that the forge is reachable; it is tried again",
    ),
    Code(
        "forge_error",
        "other",
        "The forge's answer about reviews could not be read.",
        "see that the forge is reachable; it is tried again",
    ),
    Code(
        "verifier_error",
        "other",
        "The verifier of OpenPGP signatures is missing or gave no answer.",
        "install gpgv 2.2 or newer on this machine",
    ),
    Code("clock", "other", "The clock went back behind a time that was recorded.", "set the clock of this machine"),
    Code(
        "limit",
        "other",
        "More approvals under one head than are read, or one that is too long.",
        "make the head anew and approve that; remove the refs of strangers below refs/approvals/v1/",
    ),
)

HISTORY = frozenset(code.name for code in TABLE if code.group == "history")
STORE = frozenset(code.name for code in TABLE if code.group == "store")
HALT = frozenset(code.name for code in TABLE if code.verdict is Verdict.HALT)
REJECT = frozenset(code.name for code in TABLE if code.verdict is Verdict.REJECT)
_FIXES = {code.name: code.fix for code in reversed(TABLE)}


def fix(name: str) -> str:
    """What to do next; empty for a code that this version does not know."""
    return _FIXES.get(name, "")


def completed(advice: str, *, head: str | None, base: str, blocked: bool) -> str:
    """Advice as it can be typed: about this head, and this last accepted commit.

    `blocked`: it stands on commits that were not accepted; then only a statement made from `base` on is about this merge.
    """
    advice = advice.replace(f"--after A --key KEY --push{_LAST}", f"--after {base} --key KEY --push")
    after = f" --after {base}" if blocked else ""
    return _UNTOLD.sub(rf"reconciler \1 {head[:_DIGITS]}{after}", advice) if head else advice


def as_markdown() -> str:
    """docs/reference/verdicts.md."""
    lines = [
        "# Verdicts and their codes",
        "",
        "A verdict is the strongest class among its reasons: HALT, REJECT, HOLD, then ACCEPT, which has none. Every reason is listed, not the",
        "first one. This page is made from the table that the judge reads (`reconciler/admission/codes.py`).",
    ]
    for group, title in _TITLES.items():
        lines += ["", f"## {title}", "", _CONSEQUENCES[group], "", "| code | says | what to do next |", "|---|---|---|"]
        lines += [f"| `{code.name}` | {code.says} | {code.fix} |" for code in TABLE if code.group == group]
    return "\n".join(lines) + "\n"

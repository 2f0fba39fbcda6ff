"""The commits that a merge brings in: are they well formed, signed, and by whom (trust.md 2.3, P5 and P7).

Text that anybody can type (author, committer, co-authors) only ever excludes a person from approving.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from reconciler import model, ports
from reconciler.admission import commit, effect, openpgp, packets, patterns, policy, signature, statement, tree
from reconciler.audit import record

MAX_COMMITS = 10_000
_MERGE_PARENTS = 2


@dataclass(frozen=True)
class Judge:
    """What a signature is held against: the policy in force, t_obs of the merge, and who is asked about OpenPGP."""

    rules: policy.Policy
    at: datetime
    verifier: ports.OpenPgp
    unsigned: bool = False  # commits without a signature pass: never in production, and never a merge


@dataclass(frozen=True)
class Signed:
    """One commit and its signer; or why it has none that counts."""

    commit: commit.Commit
    signer: policy.Signer | None
    reasons: model.ValidationResult

    @property
    def record(self) -> record.SignedCommit:
        author = f"{self.commit.author.name} <{self.commit.author.email}>"
        key_id = self.signer.key.id if self.signer else ""
        return record.SignedCommit(
            oid=self.commit.id, signer=self.signer.name if self.signer else "", key_id=key_id, author=author
        )


@dataclass(frozen=True)
class Brought:
    commits: tuple[Signed, ...] = ()
    unreadable: Mapping[model.Oid, model.Reason] = field(default_factory=dict)

    @property
    def reasons(self) -> model.ValidationResult:
        return (*self.unreadable.values(), *(reason for each in self.commits for reason in each.reasons))

    def authors(self, rules: policy.Policy) -> frozenset[str]:
        return frozenset(p for each in self.commits for p in named(each.commit, rules))

    def excluded(self, rules: policy.Policy) -> dict[str, str]:
        """Person -> why they may not approve: everybody who signed, or is named in, a commit of this range."""
        signers = [each.signer.name for each in self.commits if each.signer]
        people = sorted(self.authors(rules) | set(signers))
        alone = len(set(signers)) == 1 and len(signers) == len(self.commits)
        return {
            p: "self_approval" if alone and p == signers[0] else "author_in_range" for p in people if p in rules.people
        }


def named(parsed: commit.Commit, rules: policy.Policy) -> frozenset[str]:
    """The people and robots whose address stands in this commit."""
    emails = (parsed.author.email, parsed.committer.email, *parsed.co_authors)
    return frozenset(owner for email in emails if (owner := rules.identity_of(email)))


def read(repository: ports.Repository, oids: Sequence[model.Oid], judge: Judge) -> Brought:
    """Read, re-hash and check these commits with their trees.

    Raises: what the repository raises for objects that are missing, damaged or over its limits.
    """
    commits: list[Signed] = []
    unreadable: dict[model.Oid, model.Reason] = {}
    for oid in oids:
        parsed = commit.parse_commit(oid, repository.commit(oid))
        if isinstance(parsed, model.Reason):
            unreadable[oid] = parsed
        else:
            commits.append(_check(repository, parsed, judge))
    return Brought(tuple(commits), unreadable)


def own_changes(repository: ports.Repository, parsed: commit.Commit) -> tuple[bytes, ...]:
    """The paths whose content this commit itself brought in: of a merge those that are as in neither parent."""
    after = repository.tree(parsed.id)
    sides = [frozenset(effect.changed(repository.tree(parent), after)) for parent in parsed.parents]
    return tuple(sorted(frozenset.intersection(*sides)))


def verify(parsed: commit.Commit, unsigned: str, judge: Judge) -> signature.Verified | model.Reason:
    """Whose key signed this commit; `unsigned` is the code for none."""
    if parsed.signature is None:
        return model.Reason(code=unsigned, message="it is not signed", where=parsed.id, fix="sign it: git commit -S")
    if parsed.signature.startswith(packets.BEGIN):
        asked = openpgp.Judge(judge.rules.openpgp_keys, judge.verifier, judge.at)
        found = openpgp.verify(parsed.payload, parsed.signature, asked)
    else:
        found = signature.verify(parsed.payload, parsed.signature, namespace=statement.COMMIT_NAMESPACE)
    return found.model_copy(update={"where": parsed.id}) if isinstance(found, model.Reason) else found


def _check(repository: ports.Repository, parsed: commit.Commit, judge: Judge) -> Signed:
    repository.tree(parsed.id)  # P5: a commit whose tree is not here, or not what its id says, does not count.
    reasons = list(_unknown(parsed, judge.rules))
    if parsed.signature is None and judge.unsigned:
        return Signed(parsed, None, tuple(reasons))  # Whom it names approves nothing of it, all the same.
    signer = _signer(parsed, judge)
    if isinstance(signer, model.Reason):
        return Signed(parsed, None, (*reasons, signer))
    if signer.robot and "commit" in signer.key.use:
        reasons += _beyond(repository, parsed, signer)
    return Signed(parsed, signer, tuple(reasons))


def _signer(parsed: commit.Commit, judge: Judge) -> policy.Signer | model.Reason:
    rules, at = judge.rules, judge.at
    verified = verify(parsed, "unsigned_commit", judge)
    if isinstance(verified, model.Reason):
        return verified
    signer = rules.whose(verified.key_id, use="commit", at=at)
    if isinstance(signer, model.Reason) and signer.code == "role" and len(parsed.parents) == _MERGE_PARENTS:
        merger = rules.whose(verified.key_id, use="merge", at=at)  # "Update branch" of a forge.
        if isinstance(merger, policy.Signer) and merger.robot:
            return merger
    if isinstance(signer, model.Reason):
        return signer.model_copy(update={"where": f"{parsed.id} {signer.where}".strip()})
    if signer.key.user_presence and not verified.user_present:
        return model.Reason(code="sig_invalid", message="the hardware key was not touched", where=parsed.id)
    return signer


def _unknown(parsed: commit.Commit, rules: policy.Policy) -> Iterator[model.Reason]:
    for role, ident in (("author", parsed.author), ("committer", parsed.committer)):
        if rules.identity_of(ident.email) is None:
            yield model.Reason(
                code="unknown_identity",
                message=f"the {role}'s address <{ident.email}> is nobody's in the policy in force",
                where=parsed.id,
                fix="git config user.email, to an address that the policy lists",
            )


def _beyond(repository: ports.Repository, parsed: commit.Commit, robot: policy.Signer) -> Iterator[model.Reason]:
    for path in own_changes(repository, parsed):
        if not patterns.matches_any(robot.paths, path):
            message = f"the robot {robot.name} may not change {tree.show(path)}"
            yield model.Reason(code="robot_scope", message=message, where=parsed.id, fix="let a person commit it")
            return

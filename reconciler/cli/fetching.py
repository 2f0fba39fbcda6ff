"""The approvals of heads, brought from the remote into this clone: git fetches branches by itself, and these are none."""

from __future__ import annotations

from reconciler import errors, model
from reconciler.admission import earlier
from reconciler.cli import clone, printing
from reconciler.git import approvals, writing

WITHIN_S = 20
_AT_ONCE = 200  # refspecs of one fetch


def approvals_of(here: clone.Clone, *heads: model.Oid) -> None:
    """A remote that does not answer is no reason to stop: what is here still counts, and the daemon judges again."""
    if not here.remote or not heads:
        return
    asked = [each for head in heads for each in (head, *earlier.possible(here.repository, head))]
    prefixes = [approvals.prefix_of(head) for head in asked[-_AT_ONCE:]]
    refspecs = [f"{prefix}*:{prefix}*" for prefix in prefixes]  # Never forced: such a name stays with its envelope.
    try:
        writing.fetch(here.path, here.remote, *refspecs, within_s=WITHIN_S)
    except errors.TransientError:
        printing.say(f"{here.remote} cannot be asked: only the approvals that are in this clone count")

"""An approval of one's own change, which `reconciler approve` refuses to sign: anybody with a key can make the bytes all the same.

The daemon must not lean on what a client refuses, so the story plays a client that does not.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from reconciler.admission import statement
from reconciler.cli import candidates, clone, keys
from reconciler.cli.demo import people, telling
from reconciler.git import writing

_LIFETIME = timedelta(hours=1)


def sign(author: people.Person, head: str) -> None:
    """Raises: SceneFailedError where there is nothing to bind an approval to."""
    with clone.opened(clone.Place(author.clone)) as here:
        found = candidates.find(here, here.resolve(head))
        binding = found.judged.binding
        if binding is None:
            raise telling.SceneFailedError(f"{head} cannot be approved by anybody")
        now = datetime.now(UTC).replace(microsecond=0)
        claim = statement.Claim(
            binding=binding, decision="approve", person=author.name, issued_at=now, expires_at=now + _LIFETIME
        )
        payload = statement.make_payload(claim)
        blob = keys.sign(author.key, statement.pae(payload), here.rules.namespace)
        envelope = statement.make_envelope(payload, blob, keys.key_id(author.key))
    author.quietly("git", "push", "--quiet", "origin", writing.write_approval(author.clone, binding.head, envelope))

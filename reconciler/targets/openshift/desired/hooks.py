"""Jobs that run once for a change: `reconciler/hook: before` ahead of the workloads, `after` when all are healthy. Pure.

    metadata: {name: migrate, namespace: payments, annotations: {reconciler/hook: before}}      # of a Job

A hook is sent under a name that ends in a digest of its content, `migrate-1f0c9a2b71`: a changed hook is another Job and runs,
an unchanged one is the same Job and does not. So nothing has to be replaced, and the key says which content ran.

A finished Job may go, by its TTL or by hand, without being drift. What remembers that it finished is the log's inventory: once
it is seen Complete, a step writes nothing but tells the log a new identity, `UID finished DIGEST` (`memory`, `remembers`). A Job
that vanished before it was seen to finish is made anew: it may have failed. This holds for every Job, hook or not.

A hook that is no longer wanted is deleted while it has not finished; afterwards it is left to its TTL (`is_left`) and the log's
memory of it stays (`is_kept`), so that the way back to a state does not run its hooks again. Hooks that declare no TTL get a day.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from pydantic import JsonValue

from reconciler import errors, model
from reconciler.targets.openshift.judging import judged
from reconciler.targets.openshift.judging.judged import Body

HOOK = "reconciler/hook"
PLACES: Mapping[str, int] = {"before": 250, "after": 490}
DIGITS = 10
TTL_S = 86_400
MIN_TTL_S = 300  # A daemon that is being restarted must still find it.
KEPT = " hook"
MAX_NAME_CHARS = 63  # of a Job: its name becomes a label of its pods


def hook_of(body: Body) -> Literal["before", "after"] | None:
    """When this Job is to run; None for what is no hook. `check` says what is wrong with one."""
    said = judged.text(body, "metadata", "annotations", HOOK)
    if not is_job(body):
        return None
    return "before" if said == "before" else "after" if said == "after" else None


def is_job(body: Body) -> bool:
    return judged.group(body) == "batch" and judged.text(body, "kind") == "Job"


def check(body: Body, where: str = "") -> None:
    """Raises: ConfigError(hook) for an annotation that would not do what it says."""
    said = judged.at(body, "metadata", "annotations", HOOK)
    ttl_s = judged.number(body, "spec", "ttlSecondsAfterFinished", default=TTL_S)
    if is_job(body) and ttl_s < MIN_TTL_S:
        message = f"a Job that goes {ttl_s} s after it finished may be gone before anybody saw how it ended"
        fix = f"ttlSecondsAfterFinished: {MIN_TTL_S} or more, or leave it out"
        raise errors.ConfigError("hook", message, where=where, fix=fix)
    if said is None:
        return
    if not is_job(body):
        raise errors.ConfigError(
            "hook", f"{HOOK} stands on a {judged.text(body, 'kind')}", where=where, fix="only Jobs run"
        )
    if said not in PLACES:
        raise errors.ConfigError(
            "hook", f"{HOOK} is neither before nor after", where=where, fix="write before or after"
        )


def named(body: Body) -> Body:
    """A hook under the name it is sent by, with a TTL; anything else as it is. Applied once, to what Git declares."""
    if hook_of(body) is None:
        return body
    metadata, spec = judged.at(body, "metadata"), judged.at(body, "spec")
    name = judged.text(metadata, "name")[: MAX_NAME_CHARS - DIGITS - 1].rstrip("-.")
    return {
        **body,
        "metadata": {**_mapping(metadata), "name": f"{name}-{content(body)[:DIGITS]}"},
        "spec": {"ttlSecondsAfterFinished": TTL_S, **_mapping(spec)},
    }


def content(body: Body) -> model.Digest:
    """Of a Job as it is declared, without our marks: what makes it run again when it changes."""
    shown = {key: body.get(key) for key in ("apiVersion", "kind", "spec")}
    kept = {key: judged.at(body, "metadata", key) for key in ("name", "namespace", "labels", "annotations")}
    return model.sha256(model.canonical_json({**shown, "metadata": kept}))


def finished(live: Body) -> bool:
    """Whether the Job did what it should. One that failed has not finished."""
    done = judged.conditions(live).get("Complete")
    return is_job(live) and done is not None and done.status == "True"


def memory(uid: str, declared: Body) -> str:
    """The identity under which the log keeps a Job that finished."""
    return f"{uid} finished {content(declared)}" + (KEPT if hook_of(declared) else "")


def remembers(identity: str, declared: Body) -> bool:
    """Whether the log's identity of this key says that a Job of just this content finished."""
    return identity.removesuffix(KEPT).endswith(f" finished {content(declared)}")


def is_kept(identity: str) -> bool:
    """Whether this is the log's memory of a hook that finished: kept as long as its target is, though nobody declares the hook."""
    return identity.endswith(KEPT)


def uid_of(identity: str) -> str:
    """The uid in an identity of the log, remembered or not: what a delete names as its precondition."""
    return identity.partition(" ")[0]


def is_left(live: Body) -> bool:
    """Whether a hook that nobody declares any more is left to its TTL instead of being deleted. Not where the target goes."""
    return hook_of(live) is not None and finished(live)


def _mapping(value: JsonValue) -> dict[str, JsonValue]:
    return dict(value) if isinstance(value, dict) else {}

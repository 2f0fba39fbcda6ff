"""Which state a turn looks at and works towards: that of an open deployment, the one wanted now, or the one kept meanwhile."""

from __future__ import annotations

from collections.abc import Callable

from reconciler import errors, model
from reconciler.admission import admitted
from reconciler.audit import state
from reconciler.convergence import deciding

Brakes = Callable[[model.Wanted, state.Target], deciding.Brakes]


class Aiming:
    """Of one target. Reads content and evidence; never the target itself."""

    def __init__(
        self, name: str, read: admitted.Read, brakes: Brakes, evidence: Callable[[model.Digest], bytes]
    ) -> None:
        self._name, self._read, self._brakes, self._evidence = name, read, brakes, evidence

    def hold(
        self, known: state.Target, goal: model.Version | deciding.Stand
    ) -> tuple[model.Version | deciding.Stand, deciding.Stand | None]:
        """The state to be in, and why that is not yet the one that is wanted: drift goes on being corrected meanwhile."""
        kept = deciding.kept_meanwhile(known)
        if kept is None or isinstance(goal, deciding.Stand) or kept.digest == goal.digest:
            return goal, None
        brakes = self._brakes(self._read(self._name, goal).state, known)
        waits = deciding.held(known, goal, brakes)
        return (kept, waits) if waits else (goal, None)

    def aim(self, known: state.Target, goal: model.Version | deciding.Stand) -> admitted.Admitted:
        """What to look at: an open deployment's own state, for what became of its writes is asked of no other.

        Over the connection that is wanted now, though: the merge that supersedes it may be the one that mends it.
        """
        if known.open is None:
            if isinstance(goal, deciding.Stand):
                raise errors.ConfigError(goal.code, f"{self._name}: there is no state to look at")
            return self._giving_back(self._read(self._name, goal), known)
        aim = self._giving_back(self._read(self._name, known.open.wanted), known)
        if isinstance(goal, model.Version) and goal.digest != known.open.wanted.digest:
            new = self._read(self._name, goal).state
            if new.kind == aim.state.kind:
                mended = aim.state.model_copy(update={"connection": new.connection})
                return admitted.Admitted(state=mended, acknowledged=aim.acknowledged)
        return aim

    def _giving_back(self, aim: admitted.Admitted, known: state.Target) -> admitted.Admitted:
        """On the way back, what the failed change adopted is wanted as it was before."""
        wanted = aim.state
        if not known.adopted or not isinstance(wanted, model.Desired):
            return aim
        if deciding.cause_of(wanted, known) is not model.Cause.ROLLBACK:
            return aim
        there = {
            key: model.Snapshot.model_validate_json(self._evidence(digest)).resources.get(key)
            for key, digest in known.adopted.items()
        }
        back = {key: value for key, value in there.items() if value is not None}
        return admitted.Admitted(wanted.model_copy(update={"given_back": back}), acknowledged=aim.acknowledged)

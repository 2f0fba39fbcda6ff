"""`recover`: the way out of a blocked history. Shows what blocks it, and prepares the merge that is judged as one change (trust.md 5.2).

What the refused commits did is taken back, path by path, unless it is to be kept; what only stood behind them stays.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from reconciler import errors, model
from reconciler.admission import effect, policy, tree
from reconciler.cli import (
    candidates,
    changes,
    clone,
    exit_codes,
    keys,
    options,
    printing,
    restoring,
    session,
    verifying,
)
from reconciler.git import repository, writing

app = typer.Typer(rich_markup_mode=None)


@app.command()
def recover(  # noqa: PLR0913 - three ways out behind one verb
    *,
    key: Annotated[Path | None, typer.Option("--key", help="Your SSH key: makes the branch and the merge.")] = None,
    keep: Annotated[
        bool, typer.Option("--keep", help="Keep what the refused commits did: it is approved as it is.")
    ] = False,
    after: Annotated[str, typer.Option("--after", help="The last accepted commit; else the daemon says.")] = "",
    config_file: options.ConfigOption = None,
    branch: Annotated[str, typer.Option("--branch", help="What is prepared.")] = "recovery",
    push: options.PushOption = False,
    place: options.RepositoryOption = options.HERE,
    remote: options.RemoteOption = "origin",
    ref: options.RefOption = "",
    mirror: Annotated[
        bool, typer.Option("--mirror", help="After an alarm of the mirror: have it fetched anew.")
    ] = False,
    log: Annotated[
        bool, typer.Option("--log", help="After the log lost its end: go on with what is proven of it.")
    ] = False,
    checkpoint: Annotated[
        Path | None, typer.Option("--checkpoint", help="With --log: the newest one that was kept elsewhere.")
    ] = None,
    reason: Annotated[str, typer.Option("--reason", help="With --mirror or --log: why; it is recorded.")] = "",
) -> int:
    """Show what blocks the watched branch; with --key prepare the recovery merge, to be approved and then landed.

    With --mirror or --log: the operator's step out of an alarm, where the daemon is configured and does not run.
    """
    if mirror or log:
        return _out_of_an_alarm(config_file, reason, checkpoint, mirror=mirror, log=log)
    base = after or verifying.tip_of_daemon(config_file)
    with clone.opened(clone.Place(place, remote, ref), after=base) as here:
        chain = candidates.chain(here)
        stands = candidates.walk(here, chain)
        if not stands.passed:
            printing.say("nothing is blocked")
            return exit_codes.FINE
        for oid, judged in zip(stands.passed, stands.judged, strict=True):
            codes = ", ".join(reason.code for reason in judged.decision.reasons)
            printing.out(f"{oid} {judged.decision.verdict} {codes}")
        back = {} if keep else dict(taken_back(here, stands))
        for path in sorted(back):
            printing.out(f"back to {stands.base[:12]}: {tree.show(path)}")
        for line in _left(here, stands, back):
            printing.out(line)
        if key is None:
            printing.say(f"next: reconciler recover --after {stands.base} --key KEY --push prepares the recovery merge")
            return verifying.exit_code([judged.decision for judged in stands.judged])
        made = prepare(here, stands, back, key, f"refs/heads/{branch}")
        printing.out(f"{made} refs/heads/{branch}")
        if push and here.remote:
            writing.push_ref(here.path, here.remote, f"refs/heads/{branch}")
    option = f"--after {stands.base}"
    printing.say(f"next, other people: reconciler approve {branch} {option} --key KEY --push")
    printing.say(f"then: reconciler merge {branch} {option} --key KEY --push")
    return exit_codes.FINE


def _out_of_an_alarm(config_file: Path | None, reason: str, checkpoint: Path | None, *, mirror: bool, log: bool) -> int:
    from reconciler.cli import rescuing

    if mirror and log:
        raise errors.ConfigError("usage", "--mirror and --log are two steps", fix="one at a time")
    told = session.configuration(config_file)
    return rescuing.mirror(told, reason) if mirror else rescuing.log(told, reason, checkpoint)


def taken_back(here: clone.Clone, stands: candidates.Walked) -> Iterator[tuple[bytes, model.Entry | None]]:
    """Every path that a refused commit changed, as it was in the last accepted one. Later changes of the same path go too."""
    before = here.repository.tree(stands.base)
    for oid in stands.passed:
        if _only_stood_behind(here, stands.base, oid):
            continue
        first = repository.parse_links(here.repository.commit(oid), oid).parents[:1]
        parent = here.repository.tree(first[0]) if first else {}
        for path in effect.changed(parent, here.repository.tree(oid)):
            yield path, before.get(path)


def _only_stood_behind(here: clone.Clone, base: model.Oid, oid: model.Oid) -> bool:
    """Whether it would be accepted, were what is below it. Not where the policies below it are others: they prove nothing."""
    below = repository.parse_links(here.repository.commit(oid), oid).parents[:1]
    place = policy.PATH.encode()
    if not below or here.repository.tree(below[0]).get(place) != here.repository.tree(base).get(place):
        return False
    return candidates.walk(here.at(below[0]), (oid,)).base == oid


def prepare(
    here: clone.Clone,
    stands: candidates.Walked,
    back: dict[bytes, model.Entry | None],
    key: Path,
    name: str,
) -> model.Oid:
    """One signed commit on the last of them, and the signed merge of it: that merge is what is approved."""
    last, now = stands.passed[-1], datetime.now(UTC)
    author, merger = (keys.signer(here.rules, key, use, now) for use in ("commit", "merge"))
    head = restoring.commit(
        here.path, last, back, signer=author, message=f"Recover from {', '.join(oid[:12] for oid in stands.passed)}"
    )
    made = restoring.commit(
        here.path, head, {}, signer=merger, message=f"Recovery merge after {stands.base[:12]}", parents=(last, head)
    )
    restoring.branch(here.path, name, made)
    return made


def _left(here: clone.Clone, stands: candidates.Walked, back: dict[bytes, model.Entry | None]) -> Iterator[str]:
    """What the recovery brings beside: good work that stood behind."""
    before, now = here.repository.tree(stands.base), here.repository.tree(stands.passed[-1])
    paths = [path for path in effect.changed(before, now) if path not in back]
    yield from changes.diff(here.repository, before, now, paths)

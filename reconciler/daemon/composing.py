"""Configuration -> the real ports."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from reconciler import config, documents, errors, model, ports
from reconciler.admission import admit, judging, policy
from reconciler.audit import state
from reconciler.daemon import core, plugins
from reconciler.git import gpgv, mirror, process
from reconciler.secrets import resolving, session, vault
from reconciler.targets import memory


def origin(configuration: config.Configuration) -> str:
    """The name of the log in its checkpoints: one for each installation."""
    return f"reconciler/{configuration.installation}"


def watched(configuration: config.Configuration) -> mirror.Watched:
    source = configuration.source
    url = source.url if "://" in source.url else f"file://{source.url}"
    token = source.auth.token
    auth = process.Auth(
        ssh_key=source.auth.ssh_key,
        known_hosts=source.auth.known_hosts,
        token=resolving.Secrets(os.environ).resolve(token) if token else "",
    )
    remote = process.Remote(url, auth, allow_file=not configuration.production)
    object_format = "sha1" if len(source.genesis) == len("0" * 40) else "sha256"
    return mirror.Watched(remote, source.ref, object_format)


def settings(configuration: config.Configuration, *, converge: bool = False) -> core.Settings:
    source, denied = configuration.source, configuration.source.denied
    return core.Settings(
        terms=judging.Terms(
            denied=judging.Denied(
                commits=frozenset(denied.commits), keys=frozenset(denied.keys), people=frozenset(denied.people)
            ),
            production=configuration.production,
            openpgp=gpgv.Gpgv(),
        ),
        pin=admit.Pin(
            genesis=model.Oid(source.genesis),
            reason=source.genesis_reason,
            source_id=source.id,
            source_ref=source.ref,
            production=configuration.production,
            converge=converge,
        ),
        poll_s=source.poll,
        per_gate_s=configuration.gates.per_gate,
        suite_s=configuration.gates.suite,
    )


class PolicyReach:
    """`ports.Reach` by the newest accepted policy and the environment of what is wanted."""

    def __init__(self, now: Callable[[], state.State], repository: ports.Repository) -> None:
        self._now, self._repository = now, repository

    def allows(self, wanted: model.Wanted, host: str) -> bool:
        known = self._now()
        revision = known.policies or known.tip
        if revision is None:
            return False
        allowed = policy.read_policy(self._repository, revision).environments.get(self._environment(wanted, known))
        return allowed is not None and allowed.allows_endpoint(host)

    def _environment(self, wanted: model.Wanted, known: state.State) -> str:
        """A snapshot has no document: that of the state which is on its way back from counts."""
        if isinstance(wanted, model.Desired):
            return wanted.environment
        target = known.targets.get(wanted.target)
        try:
            read = target and target.cleared and documents.read_version(self._repository, target.cleared, wanted.target)
        except errors.ConfigError:
            return ""
        return read.desired.environment if read else ""


def secrets(configuration: config.Configuration, clock: ports.Clock) -> resolving.Secrets:
    """What resolves references. Share it: it holds the vault's token."""
    named = configuration.secrets.vault
    if named is None:
        return resolving.Secrets(os.environ)
    settings = vault.Settings(named.url, _auth(named.auth), named.namespace or "", named.ca_file, named.timeout)
    return resolving.Secrets(os.environ, clock, settings)


def _auth(named: config.VaultAuth) -> session.Auth:
    match named:
        case config.VaultAuth(approle=config.AppRole() as way):
            return session.AppRole(way.role_id, way.secret_id, way.mount)
        case config.VaultAuth(jwt=config.Jwt() as way):
            return session.Jwt(way.role, way.jwt, way.mount)
        case config.VaultAuth(kubernetes=config.KubernetesJwt() as way):
            return session.Jwt(way.role, way.jwt, way.mount)
        case _:
            return session.Token(named.token or "")


def facilities(
    configuration: config.Configuration,
    kind: str,
    clock: ports.Clock,
    reach: ports.Reach = ports.NOWHERE,
    wake: Callable[[str], None] = ports.wake_nobody,
    *,
    known: ports.Secrets | None = None,
) -> ports.DriverFacilities:
    """`known`: what resolves references where that is shared."""
    return ports.DriverFacilities(
        installation=configuration.installation,
        state=configuration.state / "targets" / kind,
        local_roots=configuration.local.roots,
        secrets=known or secrets(configuration, clock),
        clock=clock,
        reach=reach,
        wake=wake,
    )


def drivers(
    configuration: config.Configuration,
    clock: ports.Clock,
    reach: ports.Reach = ports.NOWHERE,
    wake: Callable[[str], None] = ports.wake_nobody,
) -> ports.Drivers:
    """`wake`: told the name of a target that a driver saw move, from any thread."""
    allowed, known = frozenset(configuration.plugins.allow), secrets(configuration, clock)
    return plugins.Loaded(
        "reconciler.targets",
        allowed,
        lambda kind, made: lambda: made(facilities(configuration, kind, clock, reach, wake, known=known)),
    )


def gates_over(
    configuration: config.Configuration, known: ports.Drivers, clock: ports.Clock
) -> Callable[[ports.Repository], ports.Gates]:
    """The gates, reading from whichever repository a change lies in."""
    allowed = frozenset(configuration.plugins.allow)

    def over(repository: ports.Repository) -> ports.Gates:
        around = ports.GateFacilities(repository, known, clock, configuration.production)
        return plugins.Loaded("reconciler.gates", allowed, lambda _, made: lambda check: made(check, around))

    return over


def watched_paths(configuration: config.Configuration, wanted: model.Wanted, clock: ports.Clock) -> tuple[Path, ...]:
    """The local files whose change should wake this target."""
    around = facilities(configuration, wanted.kind, clock)
    match wanted:
        case model.Desired(kind="memory"):
            return memory.watched_paths(wanted, around)
        case model.Desired(kind="vm"):
            from reconciler.targets.vm import driver

            return driver.watched_paths(wanted, around)
        case _:
            return ()

"""The log of a configuration, opened for a command that has the state folder to itself and needs nothing else of the daemon."""

from __future__ import annotations

import importlib.metadata
import os
import secrets
import socket
from collections.abc import Iterator
from contextlib import contextmanager

import sqlalchemy as sa

from reconciler import config, ports
from reconciler.audit import log, signing, storage
from reconciler.daemon import clock, composing


def make_log(
    configuration: config.Configuration, engine: sa.Engine, signer: ports.Signer, clock_: ports.Clock
) -> log.Log:
    """Raises: as `log.Log`."""
    # Not the process: who owns the state folder is the next life of whoever owned it before, and a life that was
    # killed gives no lease back. The epoch still grows, so that a former life that is not dead can append no more.
    return log.Log(
        engine,
        clock_,
        holder=f"{socket.gethostname()}:{configuration.state.resolve()}",
        signer=signer,
        origin=composing.origin(configuration),
        daemon_info={
            "version": importlib.metadata.version("reconciler"),
            "config_sha256": configuration.digest,
            "process": f"{os.getpid()}:{secrets.token_hex(4)}",
        },
    )


@contextmanager
def opened(configuration: config.Configuration, url: str = "") -> Iterator[log.Log]:
    """The log, with the lease of `watch`; `url`: another database than the configured one.

    Raises: as `log.Log`; TransientError(leased).
    """
    engine = storage.make_engine(url or configuration.store_url)
    try:
        signer = signing.FileSigner.read(configuration.store.signing_key)
        made = make_log(configuration, engine, signer, clock.SystemClock())
        made.lease("watch")
        yield made
        made.close()
    finally:
        engine.dispose()

"""TLS as the server has it: its certificate, whose certificates it asks for, and how a new one is taken meanwhile."""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from quire_engine.errors import ConfigError
from quire_server.settings import ServerSettings
from quire_server.watched import Watched

logger = logging.getLogger("quire")

LOOK_AGAIN = 2.0
"""Seconds between looks at the files of a certificate that may change."""


def options(settings: ServerSettings) -> dict[str, Any]:
    """What uvicorn must know of it; nothing, without a certificate."""
    if settings.ssl_certfile is None:
        return {}
    return {
        "ssl_keyfile": settings.ssl_keyfile,
        "ssl_certfile": settings.ssl_certfile,
        "ssl_ca_certs": settings.ssl_ca_certs,
        "ssl_cert_reqs": settings.ssl_cert_reqs,
        **({} if settings.ssl_ciphers is None else {"ssl_ciphers": settings.ssl_ciphers}),
    }


def check(settings: ServerSettings) -> None:
    """Try out what the settings name. ConfigError says what cannot be used."""
    if (settings.ssl_keyfile is None) != (settings.ssl_certfile is None):
        raise ConfigError("TLS needs both files: give --ssl-keyfile and --ssl-certfile.")
    asked = {
        "--ssl-ca-certs": settings.ssl_ca_certs is not None,
        "--ssl-cert-reqs": settings.ssl_cert_reqs > 0,
        "--ssl-ciphers": settings.ssl_ciphers is not None,
        "--enable-ssl-refresh": settings.enable_ssl_refresh,
    }
    if settings.ssl_certfile is None:
        if idle := [name for name, is_set in asked.items() if is_set]:
            raise ConfigError(f"{idle[0]} is for TLS: give --ssl-keyfile and --ssl-certfile too.")
        return
    if asked["--ssl-ca-certs"] != asked["--ssl-cert-reqs"]:
        raise ConfigError(
            "Clients' certificates are asked for by --ssl-cert-reqs 1 or 2, and checked by --ssl-ca-certs: give both."
        )
    try_out(settings)


def try_out(settings: ServerSettings) -> None:
    """Load everything into a context that nobody uses. ConfigError names the flags."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    assert settings.ssl_certfile is not None
    flags = "--ssl-certfile and --ssl-keyfile"
    try:
        context.load_cert_chain(settings.ssl_certfile, settings.ssl_keyfile)
        if settings.ssl_ca_certs is not None:
            flags = "--ssl-ca-certs"
            context.load_verify_locations(settings.ssl_ca_certs)
        if settings.ssl_ciphers is not None:
            flags = "--ssl-ciphers"
            context.set_ciphers(settings.ssl_ciphers)
    except OSError as error:  # ssl's own errors are such too
        reason = error.strerror or error.args[0]
        raise ConfigError(f"{flags} cannot be used: {reason}.") from error


@asynccontextmanager
async def refreshing(context: ssl.SSLContext | None, settings: ServerSettings) -> AsyncIterator[None]:
    """Meanwhile, take the certificate again whenever its files have changed, if that is asked for."""
    if context is None or not settings.enable_ssl_refresh:
        yield
        return
    task = asyncio.create_task(_refresh(context, settings))
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def _refresh(context: ssl.SSLContext, settings: ServerSettings) -> None:
    """Look at the files from time to time, and take what is new in them."""
    watched = Watched(*_files(settings))
    while True:
        await asyncio.sleep(LOOK_AGAIN)
        if watched.has_changed():
            renew(context, settings)


def renew(context: ssl.SSLContext, settings: ServerSettings) -> None:
    """Read the certificate again, for the connections that come then, and tell the log what came of it.

    Files that do not fit together, as while they are being replaced, leave the certificate as it was.
    """
    try:
        try_out(settings)
        context.load_cert_chain(*_files(settings))
    except (ConfigError, OSError) as error:
        logger.error("%s The certificate stays as it was.", error)
    else:
        logger.warning("--ssl-certfile %s was read again; new connections get it.", settings.ssl_certfile)


def _files(settings: ServerSettings) -> tuple[str, str]:
    """The certificate's, and its key's."""
    assert settings.ssl_certfile is not None
    assert settings.ssl_keyfile is not None
    return settings.ssl_certfile, settings.ssl_keyfile

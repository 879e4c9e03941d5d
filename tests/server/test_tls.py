"""TLS: what is asked of it is tried out before anything else, and a new certificate is taken while it serves."""

from __future__ import annotations

import asyncio
import ssl
from contextlib import AsyncExitStack, suppress
from pathlib import Path
from typing import Any

import pytest
import trustme
from tests.support.listening import Listening, listening, request, run

from quire_engine.errors import ConfigError
from quire_server import tls
from quire_server.connection import TOLD
from quire_server.settings import ServerSettings


class Files:
    """A certificate, its key, and the authority behind it, as files."""

    def __init__(self, folder: Path) -> None:
        self.certificate, self.key, self.authority = (str(folder / name) for name in ("cert", "key", "ca"))
        self.signer = trustme.CA()
        self.signer.cert_pem.write_to_path(self.authority)
        self.renew()

    def renew(self) -> None:
        """Another certificate of the same authority."""
        issued = self.signer.issue_cert("localhost")
        Path(self.certificate).write_bytes(b"".join(each.bytes() for each in issued.cert_chain_pems))
        Path(self.key).write_bytes(issued.private_key_pem.bytes())

    @property
    def flags(self) -> dict[str, Any]:
        return {"ssl_certfile": self.certificate, "ssl_keyfile": self.key}

    def context(self, *, with_certificate: bool = False) -> ssl.SSLContext:
        """What a client brings that trusts this authority."""
        context = ssl.create_default_context(cafile=self.authority)
        if with_certificate:
            self.signer.issue_cert("client@example.org").configure_cert(context)
        return context


@pytest.fixture
def files(tmp_path: Path) -> Files:
    return Files(tmp_path)


async def hello(scope: Any, receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
    await send({"type": "http.response.body", "body": scope["scheme"][-2:].encode()})


def refusal(**fields: Any) -> str:
    with pytest.raises(ConfigError) as error:
        tls.check(ServerSettings(api_key=(), **fields))
    return str(error.value)


def test_everything_that_is_named_is_tried_out(files: Files) -> None:
    mutual = {**files.flags, "ssl_ca_certs": files.authority, "ssl_cert_reqs": 2}
    tls.check(ServerSettings(api_key=(), **mutual, ssl_ciphers="ECDHE+AESGCM", enable_ssl_refresh=True))
    assert refusal(**{**mutual, "ssl_ca_certs": files.key}).startswith("--ssl-ca-certs cannot be used: ")
    assert refusal(**files.flags, ssl_ciphers="none such").startswith("--ssl-ciphers cannot be used: ")
    assert refusal(**{**files.flags, "ssl_keyfile": files.authority}).startswith("--ssl-certfile and --ssl-keyfile")


@pytest.mark.parametrize(
    ("flag", "fields"),
    [
        ("--ssl-ca-certs", {"ssl_ca_certs": "x"}),
        ("--ssl-cert-reqs", {"ssl_cert_reqs": 1}),
        ("--ssl-ciphers", {"ssl_ciphers": "x"}),
        ("--enable-ssl-refresh", {"enable_ssl_refresh": True}),
    ],
)
def test_without_a_certificate_nothing_else_is_taken(flag: str, fields: dict[str, Any]) -> None:
    assert refusal(**fields) == f"{flag} is for TLS: give --ssl-keyfile and --ssl-certfile too."


def test_clients_certificates_are_asked_for_and_checked_or_neither(files: Files) -> None:
    assert refusal(**files.flags, ssl_cert_reqs=2).endswith("give both.")
    assert refusal(**files.flags, ssl_ca_certs=files.authority).endswith("give both.")


def test_it_serves_over_tls(files: Files) -> None:
    async def check() -> None:
        async with listening(hello, **files.flags) as server, server.client(context=files.context()) as client:
            assert await client.ask() == (200, b"ps")

    run(check())


async def refused(server: Listening) -> None:
    """Wait for the end of a connection that says nothing."""
    async with server.client() as silent:
        assert await silent.rest() == b""


def test_a_handshake_that_does_not_come_to_its_end_is_given_up(files: Files) -> None:
    async def check() -> None:
        async with listening(hello, timeout_header=0.2, **files.flags) as server:
            await refused(server)
            async with server.client(context=files.context()) as client:
                assert await client.ask() == (200, b"ps")

    run(check())


def test_what_is_no_handshake_ends_alone(files: Files) -> None:
    async def check() -> None:
        async with listening(hello, **files.flags) as server:
            async with server.client() as plain:
                plain.send(request())
                await plain.rest()
            async with server.client(context=files.context()) as client:
                assert await client.ask() == (200, b"ps")

    run(check())


def test_connections_whose_handshake_goes_on_count_among_those_that_there_may_be(files: Files) -> None:
    async def check() -> None:
        async with listening(hello, connections=1, timeout_header=600, **files.flags) as server:
            async with AsyncExitStack() as held:
                for _ in range(1 + TOLD):
                    await held.enter_async_context(server.client())
                await refused(server)
            while True:  # until it is seen that they have left
                with suppress(ConnectionError, ssl.SSLError, asyncio.IncompleteReadError):
                    async with server.client(context=files.context()) as client:
                        assert await client.ask() == (200, b"ps")
                        return

    run(check())


def test_who_must_bring_a_certificate_is_not_served_without(files: Files) -> None:
    mutual = {**files.flags, "ssl_ca_certs": files.authority, "ssl_cert_reqs": 2}

    async def check() -> None:
        async with listening(hello, **mutual) as server:
            async with server.client(context=files.context(with_certificate=True)) as client:
                assert await client.ask() == (200, b"ps")
            async with server.client(context=files.context()) as client:
                with pytest.raises((ssl.SSLError, ConnectionError, asyncio.IncompleteReadError)):
                    await client.ask()

    run(check())


def test_a_new_certificate_is_taken_and_one_that_does_not_fit_is_not(
    files: Files, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(tls, "LOOK_AGAIN", 0.02)

    async def until(words: str) -> None:
        while words not in caplog.text:
            await asyncio.sleep(0.01)

    async def check() -> None:
        async with listening(hello, **files.flags, enable_ssl_refresh=True) as server:

            async def certificate() -> bytes:
                async with server.client(context=files.context()) as client:
                    assert await client.ask() == (200, b"ps")
                    found: bytes = client.writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
                    return found

            first = await certificate()
            right = Path(files.key).read_bytes()
            Path(files.key).write_text("no key")
            await until("The certificate stays as it was.")
            assert await certificate() == first
            Path(files.key).write_bytes(right)
            caplog.clear()
            files.renew()
            await until("new connections get it")
            assert await certificate() != first

    run(check())


def test_a_certificate_is_read_again_where_that_is_asked_for(files: Files, caplog: pytest.LogCaptureFixture) -> None:
    async def check() -> None:
        async with listening(hello, **files.flags) as server:

            async def certificate() -> bytes:
                async with server.client(context=files.context()) as client:
                    await client.ask()
                    found: bytes = client.writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
                    return found

            def renew() -> None:
                assert server.server.config.ssl is not None
                tls.renew(server.server.config.ssl, ServerSettings(api_key=(), **files.flags))

            first = await certificate()
            files.renew()
            assert await certificate() == first
            renew()
            second = await certificate()
            assert second != first
            Path(files.key).write_text("no key")
            renew()
            assert await certificate() == second

    run(check())
    assert "The certificate stays as it was." in caplog.text

"""What `quire serve` looks at before it loads anything, and what it says."""

import asyncio
import resource
import socket
from pathlib import Path
from typing import Any

import pytest
from tests.support.served import Served

from quire_engine.errors import ConfigError
from quire_server import descriptors
from quire_server.entrance import Entrance
from quire_server.report import addressed, curl
from quire_server.serve import LAST_BYTES, Exit, Stop, bind, check_files, removing, url, uvicorn_config, wind_up
from quire_server.settings import ServerSettings


def settings(**fields: Any) -> ServerSettings:
    return ServerSettings(**{"api_key": (), "port": 0} | fields)


def refusal(**fields: Any) -> str:
    with pytest.raises(ConfigError) as error:
        check_files(settings(**fields))
    return str(error.value)


def test_a_template_is_its_text_or_a_file(tmp_path: Path) -> None:
    file = tmp_path / "template.jinja"
    file.write_text("{{ messages }}")
    assert settings(chat_template=str(file)).read_chat_template() == "{{ messages }}"
    assert settings(chat_template="{% if x %}").read_chat_template() == "{% if x %}"
    assert settings().read_chat_template() is None


def test_files_that_cannot_be_used_are_told_by_their_flag(tmp_path: Path) -> None:
    missing, wrong = str(tmp_path / "missing"), tmp_path / "wrong.pem"
    wrong.write_text("no key")
    assert refusal(chat_template=missing).startswith(f"--chat-template {missing} is neither")
    assert refusal(api_key_file=missing).startswith(f"--api-key-file {missing} cannot be read: ")
    assert refusal(ssl_keyfile=missing) == "TLS needs both files: give --ssl-keyfile and --ssl-certfile."
    for file in (missing, str(wrong)):
        assert refusal(ssl_keyfile=file, ssl_certfile=file).startswith(
            "--ssl-certfile and --ssl-keyfile cannot be used: "
        )


def test_a_free_port_is_found_and_told() -> None:
    with bind(settings()) as listener:
        port = listener.getsockname()[1]
        assert port > 0
        assert url(settings(), listener) == f"http://127.0.0.1:{port}"
        assert url(settings(root_path="/llm", ssl_keyfile="x"), listener) == f"https://127.0.0.1:{port}"


def test_an_address_of_another_machine_cannot_be_listened_on() -> None:
    with pytest.raises(ConfigError, match=r"192\.0\.2\.1 port 0 cannot be listened on: "):
        bind(settings(host="192.0.2.1"))


def test_a_socket_left_behind_is_replaced_but_no_other_file(tmp_path: Path) -> None:
    path = tmp_path / "socket"
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(path))
    bind(settings(uds=str(path))).close()
    path.unlink()
    path.write_text("precious")
    with pytest.raises(ConfigError, match=f"--uds {path} cannot be listened on: "):
        bind(settings(uds=str(path)))
    assert path.read_text() == "precious"


def test_the_socket_of_another_server_is_left_to_it(tmp_path: Path) -> None:
    path = tmp_path / "socket"
    with bind(settings(uds=str(path))) as other:
        other.listen()
        with pytest.raises(ConfigError, match=f"--uds {path} cannot be listened on: Address already in use"):
            bind(settings(uds=str(path)))
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(path))


def test_a_socket_is_removed_in_the_end_unless_another_has_taken_its_place(tmp_path: Path) -> None:
    path = tmp_path / "socket"
    with bind(settings(uds=str(path))), removing(str(path)):
        pass
    assert not path.exists()
    with bind(settings(uds=str(path))), removing(str(path)):
        path.unlink()
        other = bind(settings(uds=str(path)))
    other.close()
    assert path.exists()


def test_what_comes_while_the_server_ends_is_not_waited_for(engine: Served) -> None:
    async def check() -> Exit:
        came, stop = asyncio.Event(), Stop()

        async def upload() -> Any:
            came.set()
            await asyncio.Event().wait()

        entrance = Entrance()
        entrance.open(api.app)
        stop.ask()
        early = asyncio.create_task(entrance(dict(POST), upload, nowhere))
        await came.wait()
        came.clear()
        ending = asyncio.create_task(wind_up(api.app.state.serving, entrance, stop))
        await asyncio.sleep(0)
        late = asyncio.create_task(entrance(dict(POST), upload, nowhere))
        await came.wait()
        early.cancel()
        ended = await ending
        assert not late.done()
        late.cancel()
        await asyncio.gather(early, late, return_exceptions=True)
        return ended

    api = engine.api(shutdown_timeout=600)
    assert engine.run(check()) == Exit.DONE


POST: dict[str, Any] = {
    "type": "http",
    "method": "POST",
    "path": "/v1/completions",
    "query_string": b"",
    "headers": [(b"content-type", b"application/json"), (b"content-length", b"99")],
}


async def nowhere(message: Any) -> None:
    """Nobody reads the answers."""


def test_an_end_that_nobody_asked_for_is_a_failure(engine: Served) -> None:
    assert engine.run(wind_up(engine.api().app.state.serving, Entrance(), Stop())) == Exit.FAILED


def test_what_was_written_is_waited_for_only_briefly() -> None:
    config = uvicorn_config(Entrance(), settings(shutdown_timeout=600))
    assert config.timeout_graceful_shutdown == LAST_BYTES


def test_as_many_files_may_be_open_as_the_system_allows() -> None:
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (1000, limits[1]))
        assert descriptors.most_connections() == 1000 - descriptors.RESERVED
        descriptors.raise_limit()
        hard = descriptors.ENOUGH if limits[1] == resource.RLIM_INFINITY else limits[1]
        assert resource.getrlimit(resource.RLIMIT_NOFILE) == (min(hard, descriptors.ENOUGH), limits[1])
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)


def test_what_is_open_to_everybody_is_said() -> None:
    def notes(**fields: Any) -> list[str]:
        told = addressed("http://here", ("m",), settings(**fields))
        return [text for label, text in told if label == "note"]

    assert notes() == []
    assert "--api-key" in notes(host="0.0.0.0")[0]
    assert notes(host="0.0.0.0", api_key=("k",)) == []


@pytest.mark.parametrize(
    ("fields", "part"),
    [
        ({}, "curl http://here/v1/chat/completions "),
        ({"uds": "/run/quire"}, "curl --unix-socket /run/quire http://localhost/v1/chat/completions "),
        ({"api_key": ("k",)}, '"Authorization: Bearer $QUIRE_API_KEY"'),
    ],
)
def test_a_first_request_can_be_copied(fields: dict[str, Any], part: str) -> None:
    assert part in curl("http://here", settings(**fields))

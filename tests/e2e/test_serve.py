"""How a server starts, what it says, and how it ends."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from tests.support.processes import END, QUIRE, START, Server, engine_of, quire, quire_serve

from quire_protocol import sse
from quire_server.serve import Exit

CHAT = "/v1/chat/completions"
LONG = {
    "messages": [{"role": "user", "content": "Go on."}],
    "max_tokens": 400,
    "ignore_eos": True,
    "stream": True,
}
ENDLESS = {**LONG, "max_tokens": 1900}


def test_it_says_what_was_decided_and_where_it_is(server: Server) -> None:
    labels = [line.split()[0] for line in server.announced]
    assert labels[0] == "quire"
    assert set(labels) >= {"model", "device", "context", "cache", "batch", "names", "address", "try"}
    assert all(len(line) <= 160 for line in server.announced)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=str)
def test_a_signal_lets_what_runs_finish_and_ends_well(number: signal.Signals) -> None:
    flags = ("--shutdown-timeout", "600")  # a busy machine may take longer for the answer than the usual half minute
    with quire_serve(*flags) as server, httpx.Client(base_url=server.address, timeout=END) as client:
        with client.stream("POST", CHAT, json=LONG) as answer:
            lines = answer.iter_lines()
            assert next(lines).startswith("data: ")
            server.process.send_signal(number)
            rest = [line for line in lines if line]
        assert rest[-1] == "data: [DONE]"
        assert '"finish_reason":"length"' in rest[-2]
        assert server.process.wait(END) == 0


def events(lines: Iterator[str]) -> list[sse.Event]:
    """What comes up to [DONE]."""
    return [*sse.decode(f"{line}\n" for line in lines)]


def test_what_does_not_finish_in_time_is_cut_off_and_told() -> None:
    with (
        quire_serve("--shutdown-timeout", "0") as server,
        httpx.Client(base_url=server.address, timeout=END) as client,
        client.stream("POST", CHAT, json=ENDLESS) as answer,
    ):
        lines = answer.iter_lines()
        assert next(lines).startswith("data: "), answer.status_code
        server.process.send_signal(signal.SIGTERM)
        error = events(lines)[-1].json()["error"]
        assert (error["code"], error["reason"]) == (503, "shutting_down")
        assert server.process.wait(END) == Exit.CUT_OFF


def test_while_it_waits_for_what_runs_it_refuses_what_comes_and_a_second_signal_cuts_off() -> None:
    with (
        quire_serve("--shutdown-timeout", "600") as server,
        httpx.Client(base_url=server.address, timeout=END) as client,
        client.stream("POST", CHAT, json=ENDLESS) as answer,
    ):
        lines = answer.iter_lines()
        assert next(lines).startswith("data: "), answer.status_code
        assert client.get("/readyz").status_code == 200
        server.process.send_signal(signal.SIGTERM)
        wait_until_not_ready(client)
        assert client.get("/livez").status_code == 200
        assert client.get("/health").status_code == 200
        refused = client.post(CHAT, json=LONG)
        assert (refused.status_code, refused.json()["error"]["reason"]) == (503, "shutting_down")
        assert refused.headers["retry-after"] == "1"
        assert refused.headers["connection"] == "close"
        assert next(line for line in lines if line).startswith("data: ")  # what runs goes on
        server.process.send_signal(signal.SIGTERM)
        assert events(lines)[-1].json()["error"]["reason"] == "shutting_down"
        assert server.process.wait(END) == Exit.CUT_OFF


def test_a_thread_that_works_for_somebody_who_has_gone_does_not_hold_up_the_end(tmp_path: Path) -> None:
    template = tmp_path / "slow.jinja"
    years = "{% for i in range(10000) %}" * 4 + "{% endfor %}" * 4
    template.write_text("{% if slow %}" + years + "{% endif %}{{ messages[0].content }}")
    flags = ("--chat-template", str(template), "--shutdown-timeout", "0")
    with quire_serve(*flags) as server, httpx.Client(base_url=server.address, timeout=END) as client:
        body = json.dumps({"messages": LONG["messages"], "chat_template_kwargs": {"slow": True}}).encode()
        head = f"POST {CHAT} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        with socket.create_connection((client.base_url.host, client.base_url.port), timeout=END) as gone:
            gone.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
            for _ in range(8):  # who came before has long been given a thread then
                assert client.get("/v1/models").status_code == 200
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(END) == Exit.CUT_OFF


def test_an_engine_that_ends_too_often_ends_the_server_and_everybody_is_told() -> None:
    with (
        quire_serve("--max-engine-deaths", "1") as server,
        httpx.Client(base_url=server.address, timeout=END) as client,
        client.stream("POST", CHAT, json=ENDLESS) as answer,
    ):
        lines = answer.iter_lines()
        assert next(lines).startswith("data: "), answer.status_code
        (engine,) = children(server.process.pid)
        os.kill(engine, signal.SIGKILL)
        assert events(lines)[-1].json()["error"]["code"] == 503
        assert server.process.wait(END) == Exit.FAILED


def children(process: int) -> list[int]:
    return [int(each) for each in Path(f"/proc/{process}/task/{process}/children").read_text().split()]


def wait_until_not_ready(client: httpx.Client) -> None:
    give_up = time.monotonic() + END
    while client.get("/readyz").status_code == 200:
        assert time.monotonic() < give_up, "it is still ready"


def test_an_address_that_is_taken_is_told_before_anything_is_loaded() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        ended = quire("serve", "--port", port)
    assert (ended.returncode, ended.stdout) == (2, "")
    assert ended.stderr == (
        f"quire: 127.0.0.1 port {port} cannot be listened on: Address already in use; choose another with --port.\n"
    )


@pytest.mark.parametrize("command", ["serve", "check"])
def test_a_model_that_cannot_be_served_is_one_sentence(command: str, tmp_path: Path) -> None:
    ended = quire(command, str(tmp_path / "nowhere"), *(["--port", "0"] if command == "serve" else []))
    assert ended.returncode == 2
    assert ended.stderr.startswith("quire: ")
    assert ended.stderr.count("\n") == 1


def test_it_can_listen_on_a_socket_of_the_file_system() -> None:
    with tempfile.TemporaryDirectory(prefix="quire-") as folder:
        path = Path(folder, "socket")
        with quire_serve("--uds", str(path)) as server:
            assert server.address == f"unix:{path}"
            with httpx.Client(transport=httpx.HTTPTransport(uds=str(path)), base_url="http://quire") as client:
                assert client.get("/health").status_code == 200
            assert server.stop() == 0
        assert not path.exists()


def test_it_lives_before_its_model_is_loaded() -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder, "socket"))
        process = subprocess.Popen((*QUIRE, "serve", "--uds", path), stdout=subprocess.DEVNULL)
        try:
            wait_for_listener(path)
            with httpx.Client(transport=httpx.HTTPTransport(uds=path), base_url="http://quire.test") as client:
                assert client.get("/livez").status_code == 200
                assert client.get("/health").status_code == 503
        finally:
            process.terminate()
            assert process.wait(END) == 0


def wait_for_listener(path: str) -> None:
    give_up = time.monotonic() + START
    while time.monotonic() < give_up:
        with socket.socket(socket.AF_UNIX) as one:
            if one.connect_ex(path) == 0:
                return
    raise AssertionError(f"nobody listens at {path} after {START} s")


def test_a_hangup_ends_neither_the_server_nor_its_engine_and_keys_are_read_again(tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    keys.write_text("alice:one\n")
    with quire_serve("--api-key-file", str(keys)) as server, httpx.Client(base_url=server.address) as client:

        def status(key: str) -> int:
            body = {"prompt": "Once", "max_tokens": 2}
            return client.post("/v1/completions", json=body, headers={"Authorization": f"Bearer {key}"}).status_code

        assert (status("one"), status("two")) == (200, 401)
        keys.write_text("alice:two\n")
        for process in (engine_of(server), server.process.pid):
            os.kill(process, signal.SIGHUP)
        until = time.monotonic() + END
        while status("two") != 200:
            assert time.monotonic() < until
        assert status("one") == 401
        assert server.stop() == 0


def test_a_proxy_in_front_may_publish_it_under_a_path() -> None:
    flags = ("--root-path", "/llm", "--api-key", "secret", "--disable-fastapi-docs")
    with quire_serve(*flags) as server, httpx.Client(base_url=server.address) as client:
        assert client.get("/health").status_code == 200
        assert client.get("/v1/models").status_code == 401
        assert client.get("/v1/models", headers={"Authorization": "Bearer secret"}).status_code == 200


def test_check_says_what_would_be_decided_and_serves_nothing() -> None:
    ended = quire("check", "--dtype", "float32", "--max-model-len", "1K")
    assert ended.returncode == 0
    assert "  context  1,024 tokens" in ended.stdout
    assert "float32" in ended.stdout
    assert "  tools    " in ended.stdout
    assert "  thinking " in ended.stdout

"""A real server whose requests several processes answer: to its clients it is one, whichever of them they have met."""

from __future__ import annotations

import asyncio
import http.client
import json
import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import openai
import pytest
from prometheus_client.parser import text_string_to_metric_families
from tests.support.processes import END, Server, quire, quire_serve

from quire_server.serve import Exit

FLAGS = ("--dtype", "float32", "--served-model-name", "tiny", "--max-num-seqs", "32", "--api-server-count", "2")
ADMIN = {"Authorization": "Bearer admin"}
STREAMS = 16
ENDLESS = {"prompt": "Once", "max_tokens": 1900, "ignore_eos": True, "stream": True}
JSON = {"Content-Type": "application/json"}


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with quire_serve(*FLAGS, "--admin-key", "admin") as each:
        yield each


OPENED: list[http.client.HTTPConnection] = []
"""Connections of the test that runs."""


@pytest.fixture(autouse=True)
def _closing() -> Iterator[None]:
    yield
    while OPENED:
        OPENED.pop().close()


def workers(server: Server) -> list[int]:
    """The processes that answer requests, by what they run."""
    main = server.process.pid
    children = map(int, Path(f"/proc/{main}/task/{main}/children").read_text().split())
    return [each for each in children if b"quire_server.worker" in command(each)]


def command(process: int) -> bytes:
    try:
        return Path(f"/proc/{process}/cmdline").read_bytes()
    except OSError:  # it ended meanwhile
        return b""


def until(reached: Callable[[], Any]) -> Any:
    """What this gives once it is true."""
    give_up = time.monotonic() + END
    while not (found := reached()):
        assert time.monotonic() < give_up, "nothing came of it"
        time.sleep(0.01)
    return found


def worker_at(server: Server, port: int) -> int | None:
    """Which worker has the connection of a client that has this port; None while none has taken it."""
    ours = f":{urlsplit(server.address).port:04X}"
    inodes = {
        line.split()[9]
        for line in Path("/proc/net/tcp").read_text().splitlines()
        if line.split()[1].endswith(ours) and line.split()[2].endswith(f":{port:04X}")
    }
    for worker in workers(server):
        for link in Path(f"/proc/{worker}/fd").iterdir():
            if any(f"socket:[{inode}]" == os.readlink(link) for inode in inodes - {"0"}):
                return worker
    return None


def connected(server: Server, worker: int) -> http.client.HTTPConnection:
    """A connection that this worker has taken; connections to others are opened and dropped meanwhile."""
    give_up = time.monotonic() + END
    address = urlsplit(server.address)
    while True:
        assert time.monotonic() < give_up, "it takes no connection"
        one = http.client.HTTPConnection(str(address.hostname), address.port, timeout=END)
        OPENED.append(one)  # not closed before the end: who has many connections takes the next all the same
        one.connect()
        port = one.sock.getsockname()[1]
        if until(lambda port=port: worker_at(server, port)) == worker:
            return one


def begun(server: Server, worker: int, request_id: str = "", **body: Any) -> http.client.HTTPResponse:
    """The answer to a request that this worker has begun to answer."""
    one = connected(server, worker)
    headers = JSON | ({"X-Request-Id": request_id} if request_id else {})
    one.request("POST", "/v1/completions", json.dumps({**ENDLESS, **body}), headers)
    answer = one.getresponse()
    assert answer.status == 200
    assert answer.readline().startswith(b"data: ")
    return answer


def rest(answer: http.client.HTTPResponse) -> list[str]:
    """The lines that still come, but for empty ones."""
    return [line for line in answer.read().decode().splitlines() if line]


def metrics(server: Server) -> dict[str, float]:
    """Every metric without labels of its own, and sums over those that have some."""
    found: dict[str, float] = {}
    for family in text_string_to_metric_families(httpx.get(f"{server.address}/metrics").text):
        for sample in family.samples:
            found[sample.name] = found.get(sample.name, 0) + sample.value
    return found


async def crowd(server: Server) -> list[str]:
    """What the clients of many streams see, each over a connection of its own."""

    async def one(place: int) -> str:
        async with openai.AsyncOpenAI(base_url=server.api, api_key="none", max_retries=0) as client:
            stream = await client.completions.create(
                model="tiny", prompt=f"The number {place}", max_tokens=60, temperature=0, stream=True
            )
            return "".join([chunk.choices[0].text async for chunk in stream if chunk.choices])

    async with asyncio.timeout(2 * END):
        return await asyncio.gather(*map(one, range(STREAMS)))


def test_streams_are_the_same_whichever_process_answers_and_all_are_counted(server: Server) -> None:
    before = metrics(server)
    told = asyncio.run(crowd(server))
    assert asyncio.run(crowd(server)) == told
    for worker in workers(server):
        one = connected(server, worker)
        one.request("POST", "/v1/completions", json.dumps({"prompt": "The number 3", "max_tokens": 60}), JSON)
        assert json.loads(one.getresponse().read())["choices"][0]["text"]
    after = metrics(server)
    for name in ("vllm:request_success_total", "http_requests_total", "vllm:e2e_request_latency_seconds_count"):
        assert after[name] - before.get(name, 0) == 2 * STREAMS + 2
    drawn = after["vllm:generation_tokens_total"] - before["vllm:generation_tokens_total"]
    assert drawn == after["vllm:request_generation_tokens_sum"] - before["vllm:request_generation_tokens_sum"]


def test_a_request_is_ended_by_its_id_and_counted_as_load_whichever_process_is_asked(server: Server) -> None:
    first, second = workers(server)
    answer = begun(server, first, "to-be-ended")
    other = connected(server, second)
    other.request("GET", "/load")
    assert json.loads(other.getresponse().read()) == {"server_load": 1}
    other.request("DELETE", "/v1/requests/to-be-ended")
    assert json.loads(other.getresponse().read())["id"] == "to-be-ended"
    lines = rest(answer)
    assert '"finish_reason":"abort"' in lines[-2]
    other.request("DELETE", "/v1/requests/to-be-ended")
    assert other.getresponse().status == 404


def test_a_request_that_names_itself_is_answered_once_whichever_process_is_asked(server: Server) -> None:
    body = json.dumps({"prompt": "Once", "max_tokens": 9, "temperature": 1, "ignore_eos": True})
    for key in ("a", "b", "c"):
        told = []
        for worker in workers(server):
            one = connected(server, worker)
            one.request("POST", "/v1/completions", body, JSON | {"Idempotency-Key": key})
            answer = one.getresponse()
            told.append((answer.read(), answer.headers.get("Idempotent-Replayed")))
        assert [replayed for _, replayed in told] == [None, "true"]
        assert told[0][0] == told[1][0]


def test_sleep_is_seen_by_all(server: Server) -> None:
    first, second = (connected(server, worker) for worker in workers(server))
    first.request("POST", "/sleep", headers=ADMIN)
    assert first.getresponse().read() == b'{"status":"sleeping","level":1}'

    def sleeps() -> bool:
        second.request("GET", "/is_sleeping", headers=ADMIN)
        return bool(json.loads(second.getresponse().read())["is_sleeping"])

    until(sleeps)
    second.request("POST", "/wake_up", headers=ADMIN)
    assert second.getresponse().read() == b'{"status":"awake"}'
    second.request("GET", "/readyz")
    assert second.getresponse().status == 200


def test_the_keyboard_interrupt_of_a_terminal_ends_no_worker_by_itself(server: Server) -> None:
    before = workers(server)
    for worker in before:
        os.kill(worker, signal.SIGINT)
        os.kill(worker, signal.SIGTERM)
        connected(server, worker)
    assert workers(server) == before


def test_a_worker_that_is_killed_costs_its_own_clients_their_connections_and_is_there_again() -> None:
    with quire_serve(*FLAGS, "--shutdown-timeout", "600") as server:
        first, second = workers(server)
        other = connected(server, first)
        other.request("GET", "/v1/models")
        assert json.loads(other.getresponse().read())["data"][0]["id"] == "tiny"
        lost, stays = begun(server, first), begun(server, second, max_tokens=300)
        counted = metrics(server)["http_requests_total"]
        os.kill(first, signal.SIGKILL)
        with pytest.raises((http.client.IncompleteRead, ConnectionError)):
            rest(lost)
        until(lambda: httpx.get(f"{server.address}/load").json() == {"server_load": 1})
        (new,) = until(lambda: {*workers(server)} - {first, second})
        connected(server, new)
        assert metrics(server)["http_requests_total"] >= counted
        server.process.send_signal(signal.SIGTERM)
        lines = rest(stays)
        assert '"finish_reason":"length"' in lines[-2]
        assert lines[-1] == "data: [DONE]"
        assert server.process.wait(END) == Exit.DONE


def test_a_signal_drains_every_worker_and_a_second_one_cuts_off() -> None:
    with quire_serve(*FLAGS, "--shutdown-timeout", "600") as server:
        answers = [begun(server, worker) for worker in workers(server)]
        probes = [connected(server, worker) for worker in workers(server)]
        server.process.send_signal(signal.SIGTERM)
        for probe in probes:

            def ready(probe: http.client.HTTPConnection = probe) -> bool:
                probe.request("GET", "/readyz")
                return probe.getresponse().read() == b""

            until(lambda ready=ready: not ready())
            probe.request("POST", "/v1/completions", json.dumps(ENDLESS), JSON)
            refusal = probe.getresponse()
            assert (refusal.status, json.loads(refusal.read())["error"]["reason"]) == (503, "shutting_down")
        server.process.send_signal(signal.SIGTERM)
        for answer in answers:
            assert '"reason":"shutting_down"' in rest(answer)[-2]
        assert server.process.wait(END) == Exit.CUT_OFF


def test_an_engine_that_ends_too_often_ends_all_and_everybody_is_told() -> None:
    with quire_serve(*FLAGS, "--max-engine-deaths", "1") as server:
        answers = [begun(server, worker) for worker in workers(server)]
        main = server.process.pid
        children = map(int, Path(f"/proc/{main}/task/{main}/children").read_text().split())
        (engine,) = (each for each in children if b"quire_engine.link.child" in command(each))
        os.kill(engine, signal.SIGKILL)
        for answer in answers:
            assert '"code":503' in rest(answer)[-2]
        assert server.process.wait(END) == Exit.FAILED


def test_workers_that_end_too_often_end_the_server() -> None:
    with quire_serve(*FLAGS, "--max-engine-deaths", "1") as server:
        os.kill(workers(server)[0], signal.SIGKILL)
        assert server.process.wait(END) == Exit.FAILED


def test_workers_end_with_the_process_that_has_the_engine() -> None:
    with quire_serve(*FLAGS) as server:
        left = workers(server)
        answer = begun(server, left[0])
        server.process.kill()
        assert '"code":503' in rest(answer)[-2]
        until(lambda: not any(map(command, left)))


@pytest.mark.parametrize("flags", [("--chat-template", "{{ oops"), ("--tokenizer", "/nowhere")], ids=str)
def test_what_is_asked_for_in_vain_is_told_once(flags: tuple[str, ...]) -> None:
    ended = quire("serve", "--port", "0", *FLAGS, *flags)
    assert ended.returncode == 2
    (line,) = (each for each in ended.stderr.splitlines() if each.startswith("quire: "))
    assert flags[0] in line or flags[1] in line

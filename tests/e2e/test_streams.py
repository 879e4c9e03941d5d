"""Streams that break, over real connections: who asked with a key comes back for the rest."""

from __future__ import annotations

import uuid
from typing import Any

import httpx
import openai
import pytest
from tests.support.processes import Server

from quire_protocol import sse

BODY: dict[str, Any] = {
    "model": "tiny",
    "messages": [{"role": "user", "content": "Tell me a story."}],
    "max_tokens": 200,
    "temperature": 1,
    "ignore_eos": True,
    "stream": True,
}
PATIENCE = 60.0


@pytest.fixture
def key() -> dict[str, str]:
    return {"Idempotency-Key": str(uuid.uuid4())}


def test_a_connection_that_breaks_loses_nothing(server: Server, key: dict[str, str]) -> None:
    decoder, found, connections = sse.Decoder(), [], 0
    url = f"{server.api}/chat/completions"
    with httpx.Client(timeout=PATIENCE) as client:
        while not decoder.done:
            last = {"Last-Event-ID": found[-1].id} if found else {}
            decoder, connections = sse.Decoder(), connections + 1
            with client.stream("POST", url, json=BODY, headers={**key, **last}) as answer:
                assert answer.status_code == 200
                for piece in answer.iter_raw(2000):  # then the client hangs up
                    found += decoder.push(piece)
                    break
        whole = client.post(url, json=BODY, headers=key)
    assert [event.data for event in found] == [event.data for event in sse.decode(whole.text.splitlines())]
    assert len({event.id for event in found}) == len(found)
    assert connections > 2


def test_the_openai_client_reads_events_with_ids_and_gets_the_same_answer_again(
    server: Server, key: dict[str, str]
) -> None:
    with openai.OpenAI(base_url=server.api, api_key="none", timeout=PATIENCE, max_retries=0) as client:
        asked = {name: value for name, value in BODY.items() if name != "ignore_eos"}
        texts = [
            [chunk.choices[0].delta.content for chunk in client.chat.completions.create(**asked, extra_headers=key)]
            for _ in range(2)
        ]
    assert texts[0] == texts[1]
    assert any(texts[0])

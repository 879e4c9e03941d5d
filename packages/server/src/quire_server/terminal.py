"""`quire chat` and `quire complete`: a running server from the terminal, over the same API as any other client."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

from openai import APIConnectionError, APIStatusError, OpenAI

PROMPT = "> "


@dataclass(frozen=True)
class Connection:
    """A client and the model it asks."""

    client: OpenAI
    model: str


def connect(namespace: argparse.Namespace) -> Connection | None:
    """Reach the server and find the model; None, with a sentence, when that fails."""
    client = OpenAI(base_url=namespace.url, api_key=namespace.api_key, max_retries=0)
    models = _told(lambda: [card.id for card in client.models.list().data], f"{namespace.url} cannot be reached")
    if not models:
        return None
    return Connection(client, namespace.model_name or models[0])


def chat(connection: Connection | None, quick: str | None, system_prompt: str | None) -> int:
    """A conversation, line by line; with `quick`, one question."""
    if connection is None:
        return 1
    messages: list[Any] = [{"role": "system", "content": system_prompt}] if system_prompt else []
    for line in [quick] if quick else _lines(f"{connection.model}: ask away; Ctrl+D ends."):
        messages.append({"role": "user", "content": line})
        answer = _told(partial(_print_all, _spoken(connection, messages)), "No answer")
        if answer is None:
            return 1
        messages.append({"role": "assistant", "content": answer})
    return 0


def complete(connection: Connection | None, quick: str | None, max_tokens: int) -> int:
    """Continue each line; with `quick`, one text."""
    if connection is None:
        return 1
    for line in [quick] if quick else _lines(f"{connection.model}: a text to continue; Ctrl+D ends."):
        if _told(partial(_print_all, _continued(connection, line, max_tokens)), "No answer") is None:
            return 1
    return 0


def _spoken(connection: Connection, messages: list[Any]) -> Iterator[str]:
    with connection.client.chat.completions.create(model=connection.model, messages=messages, stream=True) as stream:
        for chunk in stream:
            yield from (choice.delta.content or "" for choice in chunk.choices)


def _continued(connection: Connection, text: str, max_tokens: int) -> Iterator[str]:
    with connection.client.completions.create(
        model=connection.model, prompt=text, max_tokens=max_tokens, stream=True
    ) as stream:
        for chunk in stream:
            yield from (choice.text for choice in chunk.choices)


def _print_all(pieces: Iterable[str]) -> str:
    """Print the pieces as they come; give back the whole."""
    whole = []
    for piece in pieces:
        print(piece, end="", flush=True)
        whole.append(piece)
    print()
    return "".join(whole)


def _lines(greeting: str) -> Iterator[str]:
    """What the user types, until the end of the input."""
    interactive = sys.stdin.isatty()
    if interactive:
        print(greeting)
    while True:
        try:
            line = input(PROMPT if interactive else "")
        except EOFError:
            return
        if line.strip():
            yield line


def _told(ask: Callable[[], Any], failure: str) -> Any:
    """What `ask` gives; None, with the reason in a sentence, when the server refuses or is not there."""
    try:
        return ask()
    except APIStatusError as error:
        body = error.body if isinstance(error.body, dict) else {}
        print(f"{failure}: {body.get('message', error.message)}", file=sys.stderr)
    except APIConnectionError as error:
        print(f"{failure}: {error.__cause__ or error}", file=sys.stderr)
    return None

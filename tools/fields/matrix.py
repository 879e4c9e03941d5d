"""The matrix: every probe sent to a server, and what was seen. It knows HTTP, and how to start a server of its own."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from threading import Barrier, Event
from typing import Any, Literal, TypeAlias

import httpx
from tools.fields import extension
from tools.fields.checkpoint import CLOSE, OPEN, embeds, save
from tools.fields.probes import ALWAYS, ROUTES, Answer, Body, Facts, Probe, probes

Kind: TypeAlias = Literal["honoured", "refused", "reported", "dropped", "failed"]

FINE: tuple[Kind, ...] = ("honoured", "refused", "reported")
"""What may become of a field."""

FLAGS = (
    "--dtype=float32",
    "--served-model-name=fields",
    "--max-num-seqs=4",
    "--scheduling-policy=priority",
    "--enable-prompt-tokens-details",
    "--trust-request-chat-template",
    "--enable-prompt-embeds",
    f"--logits-processor-pattern={extension.FORCE}",
)
"""A server on which as much as possible is allowed, and four seats, so that a crowd has to wait."""

STEERED = f"--logits-processors={extension.STEER}"
"""What cannot go with the rest: a server that applies code to every request searches with no beams."""

CROWD_LENGTH = 768
"""Tokens of each request of a crowd."""


@dataclass(frozen=True)
class Verdict:
    """What became of one field."""

    probe: Probe
    kind: Kind
    evidence: str
    """The effect, the warning, or what the server said."""


class Matrix:
    """Sends probes to a server, and those that need one that is `steered` there, if there is such a server."""

    def __init__(self, base_url: str, model: str | None = None, *, steered: str | None = None) -> None:
        self.client = _client(base_url)
        self.steered = _client(steered or base_url)
        self.facts = self._learn(model)

    def close(self) -> None:
        """Hang up."""
        self.client.close()
        self.steered.close()

    def run(self) -> Iterator[Verdict]:
        """Every field's verdict, one after the other."""
        for probe in probes(self.facts):
            yield self.judge(probe)

    def probe(self, request: str, field: str) -> Probe:
        """The probe of one field."""
        (found,) = (each for each in probes(self.facts) if (each.request, each.field) == (request, field))
        return found

    def judge(self, probe: Probe, changed_body: Body | None = None) -> Verdict:
        """What becomes of the field; of another body in its place, when one is given."""
        plain = self._ask(probe, probe.plain_body, warm=probe.warm)
        if plain.status != 200:
            return Verdict(probe, "failed", f"already without the field: {said(plain)}")
        body = probe.changed_body if changed_body is None else changed_body
        changed = self._ask(probe, body)
        if probe.twice and changed.status == 200:
            plain, changed = changed, self._ask(probe, body)
        return Verdict(probe, *verdict(probe, plain, changed))

    def _ask(self, probe: Probe, body: Body, *, warm: bool = False) -> Answer:
        path = ROUTES[probe.request]
        if warm:
            self._post(path, body)
        if probe.crowd:
            return self._crowded(probe, path, body)
        return self._post(path, body, self.steered if probe.steered else self.client)

    def _post(self, path: str, body: Body, client: httpx.Client | None = None) -> Answer:
        answer = (client or self.client).post(path, json=dict(body))
        return Answer(answer.status_code, dict(answer.headers), answer.text)

    def _crowded(self, probe: Probe, path: str, body: Body) -> Answer:
        """The answer to a body that is sent once a crowd stands in line."""
        with ThreadPoolExecutor(probe.crowd) as pool:
            in_line, answered = Barrier(probe.crowd + 1, timeout=60), Event()
            crowd = [pool.submit(self._stand_in_line, in_line, answered) for _ in range(probe.crowd)]
            in_line.wait()
            try:
                answer = self._post(path, body)
                return replace(answer, overtook=sum(not each.done() for each in crowd))
            finally:
                answered.set()

    def _stand_in_line(self, in_line: Barrier, answered: Event) -> None:
        """One of a crowd: it stays until all of its answer is there, or nobody is measured by it any more."""
        body = {**ALWAYS["CompletionRequest"], "max_tokens": CROWD_LENGTH, "stream": True}
        with self.client.stream("POST", ROUTES["CompletionRequest"], json=body) as answer:
            in_line.wait()
            for _ in answer.iter_raw():
                if answered.is_set():
                    return

    def _learn(self, model: str | None) -> Facts:
        """Ask what the probes must know of the model."""
        completion = self._post(ROUTES["CompletionRequest"], ALWAYS["CompletionRequest"])
        chat = self._post(ROUTES["ChatCompletionRequest"], ALWAYS["ChatCompletionRequest"])
        used = {*completion.ids[0], *chat.ids[0]}
        letters = self._tokens("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789")
        return Facts(
            model=model or self.client.get("/v1/models").json()["data"][0]["id"],
            text=completion.texts[0],
            ids=completion.ids[0],
            chat_text=chat.texts[0],
            chat_ids=chat.ids[0],
            eos=self._tokens(CLOSE)[0],
            special=self._tokens(OPEN)[0],
            rare=[token for token in letters if token not in used][:12],
            embeds=embeds(),
        )

    def _tokens(self, text: str) -> list[int]:
        tokens: list[int] = self._post("/tokenize", {"prompt": text, "add_special_tokens": False}).json["tokens"]
        return tokens


def verdict(probe: Probe, plain: Answer, changed: Answer) -> tuple[Kind, str]:
    """What two answers say of the field between them."""
    if 400 <= changed.status < 500:
        message = said(changed)
        return ("refused" if probe.field in message else "failed"), message
    if changed.status != 200:
        return "failed", f"{changed.status} {said(changed)}"
    if is_seen(probe, plain, changed):
        return "honoured", probe.effect
    warnings = [each for each in told(changed) if probe.field in each]
    return ("reported", warnings[0]) if warnings else ("dropped", f"not seen: {probe.effect}")


def is_seen(probe: Probe, plain: Answer, changed: Answer) -> bool:
    """Whether the effect is there; an answer without the place to look at does not show it."""
    try:
        return probe.seen(plain, changed)
    except (KeyError, IndexError, TypeError, ValueError):
        return False


def said(answer: Answer) -> str:
    """An error's message and field, or the whole body where it has another form."""
    try:
        error = answer.json["error"]
        return f"{error['message']} ({error['param']})"
    except (ValueError, KeyError, TypeError):
        return answer.text


def told(answer: Answer) -> list[str]:
    """The warnings of an answer: in its body, in the first of its events, or in its header."""
    first: Any = answer.events[0] if answer.events else answer.json
    return [*first.get("warnings", []), *filter(None, [answer.headers.get("x-quire-warnings")])]


def _client(base_url: str) -> httpx.Client:
    return httpx.Client(base_url=base_url, timeout=120, limits=httpx.Limits(max_connections=None))


@contextmanager
def own_servers() -> Iterator[tuple[str, str]]:
    """The addresses of two servers of our own, of which the second is `steered`."""
    with own_server() as plain, own_server(STEERED) as steered:
        yield plain, steered


@contextmanager
def own_server(*flags: str) -> Iterator[str]:
    """The address of a `quire serve` with the checkpoint and the extension on which every field can be seen."""
    with tempfile.TemporaryDirectory() as checkpoint, tempfile.TemporaryDirectory() as package:
        model = save(Path(checkpoint))
        command = [sys.executable, "-m", "quire_server", "serve", str(model), "--port=0", *FLAGS, *flags]
        path = os.pathsep.join([str(extension.save(Path(package))), *filter(None, [os.environ.get("PYTHONPATH")])])
        environment = {**os.environ, "PYTHONPATH": path}
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as server:
            try:
                yield ready(server)
            finally:
                server.terminate()
                server.wait(30)


def ready(server: subprocess.Popen[str]) -> str:
    """The address that a server names when it is ready."""
    assert server.stdout is not None
    for line in server.stdout:
        if line.startswith("ready"):
            return line.split()[-1]
    raise SystemExit(f"the server ended with exit code {server.wait()} before it was ready")


def table(verdicts: Iterable[Verdict]) -> Iterator[str]:
    """The verdicts as lines."""
    for each in verdicts:
        evidence = " ".join(each.evidence.split())
        yield f"{each.probe.request + '.' + each.probe.field:<52}{each.kind:<10}{evidence[:150]}"

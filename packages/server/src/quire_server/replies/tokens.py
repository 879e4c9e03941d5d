"""Tokens and their log-probabilities in the shapes of the APIs; it knows ids and what a tokenizer says of them."""

from __future__ import annotations

import codecs
from collections.abc import Iterable, Sequence
from typing import Any

from quire_engine.sequence import TokenLogprobs
from quire_engine.text.tokenizer import Tokenizer
from quire_protocol import (
    ChatCompletionLogProb,
    ChatCompletionLogProbs,
    ChatCompletionLogProbsContent,
    CompletionLogProbs,
    Logprob,
)

LOWEST = -9999.0
"""Stands for minus infinity, which JSON does not have."""


class TokenNames:
    """How tokens are called: by their text, or `token_id:N`, which also tells apart tokens of equal text.

    Without a tokenizer they have their ids only.
    """

    def __init__(self, tokenizer: Tokenizer | None, as_ids: bool = False) -> None:
        self.tokenizer = tokenizer
        self.as_ids = as_ids

    def name(self, token_id: int) -> str:
        """What the token is called in log-probabilities."""
        text = None if self.as_ids else self.text(token_id)
        return f"token_id:{token_id}" if text is None else text

    def text(self, token_id: int) -> str | None:
        """The token's own text, U+FFFD where it is only part of a character; None where no tokenizer knows it."""
        return None if self.tokenizer is None else self.tokenizer.token_text(token_id)

    def bytes(self, token_id: int) -> bytes | None:
        """The token's true bytes; None where no tokenizer knows them."""
        return None if self.tokenizer is None else self.tokenizer.token_bytes(token_id)


def chat_logprobs(tokens: Iterable[TokenLogprobs], names: TokenNames) -> ChatCompletionLogProbs:
    """The drawn tokens in the chat dialect: each with its bytes and the likeliest ones beside it, best first."""
    content = [
        ChatCompletionLogProbsContent(
            **_chat_entry(token.token_id, token.logprob, names),
            top_logprobs=[
                ChatCompletionLogProb(**_chat_entry(token_id, logprob, names))
                for token_id, logprob in zip(token.top_ids, token.top_logprobs, strict=True)
            ],
        )
        for token in tokens
    ]
    return ChatCompletionLogProbs(content=content)


def prompt_logprobs(tokens: Iterable[TokenLogprobs | None], names: TokenNames) -> list[dict[int, Logprob] | None]:
    """The prompt's tokens, each position by token id: the token that is there first, then the likeliest."""
    return [None if token is None else _prompt_entry(token, names) for token in tokens]


class CompletionTokens:
    """Log-probabilities of one choice in the completions dialect, which knows where in the text each token begins."""

    def __init__(self, names: TokenNames, skip_special_tokens: bool) -> None:
        self.names = names
        self.skip_special_tokens = skip_special_tokens
        self.offset = 0
        self._characters = codecs.getincrementaldecoder("utf-8")("replace")

    def add(
        self, token_ids: Sequence[int], tokens: Sequence[TokenLogprobs | None], *, text: str | None = None
    ) -> CompletionLogProbs:
        """The next tokens' four lists; a token without log-probabilities (a prompt's first) has null for them.

        `text` is a prompt's, from its beginning: what stands there decides how much room its tokens take.
        """
        offsets = []
        for token_id in token_ids:
            offsets.append(self.offset)
            self.offset += self._room(token_id) if text is None else self._room_in(text, token_id)
        return CompletionLogProbs(
            text_offset=offsets,
            token_logprobs=[None if token is None else max(token.logprob, LOWEST) for token in tokens],
            tokens=[self.names.name(token_id) for token_id in token_ids],
            top_logprobs=[None if token is None else self._candidates(token) for token in tokens],
        )

    def begin_at(self, offset: int) -> None:
        """The next token begins here, whatever came before."""
        self.offset = offset
        self._characters.reset()

    def _room(self, token_id: int) -> int:
        """Characters of an answer that a token makes up."""
        tokenizer = self.names.tokenizer
        if tokenizer is None or (self.skip_special_tokens and token_id in tokenizer.special_ids):
            return 0
        # A character that several tokens make up begins where the first of them does.
        return len(self._characters.decode(tokenizer.token_bytes(token_id)))

    def _room_in(self, text: str, token_id: int) -> int:
        """Characters of a prompt that a token makes up: none, if the tokenizer put it there and nobody wrote it."""
        assert self.names.tokenizer is not None, "who echoes a text has a tokenizer"
        written = self._characters.decode(self.names.tokenizer.token_bytes(token_id))
        if token_id in self.names.tokenizer.special_ids and not text.startswith(written, self.offset):
            return 0
        if not text.startswith(written, self.offset):  # some tokenizers put a space before a text
            written = written.removeprefix(" ")
        return len(written)

    def _candidates(self, token: TokenLogprobs) -> dict[str, float]:
        """The likeliest tokens and the one that is there, by name; a second token of the same text goes by its id."""
        candidates: dict[str, float] = {}
        seen: set[int] = set()
        for token_id, logprob in [
            *zip(token.top_ids, token.top_logprobs, strict=True),
            (token.token_id, token.logprob),
        ]:
            if token_id not in seen:
                seen.add(token_id)
                name = self.names.name(token_id)
                candidates[f"token_id:{token_id}" if name in candidates else name] = max(logprob, LOWEST)
        return candidates


def _chat_entry(token_id: int, logprob: float, names: TokenNames) -> dict[str, Any]:
    known = names.bytes(token_id)
    return {
        "token": names.name(token_id),
        "logprob": max(logprob, LOWEST),
        "bytes": None if known is None else list(known),
    }


def _prompt_entry(token: TokenLogprobs, names: TokenNames) -> dict[int, Logprob]:
    entry = {token.token_id: Logprob(max(token.logprob, LOWEST), token.rank, names.text(token.token_id))}
    for rank, (token_id, logprob) in enumerate(zip(token.top_ids, token.top_logprobs, strict=True), 1):
        entry.setdefault(token_id, Logprob(max(logprob, LOWEST), rank, names.text(token_id)))
    return entry

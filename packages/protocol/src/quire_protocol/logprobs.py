"""Log-probabilities of tokens, in the shapes that the different answers have."""

from dataclasses import dataclass

from pydantic import Field

from quire_protocol.base import OpenAIBaseModel


@dataclass(frozen=True, slots=True)
class Logprob:
    """One candidate for one position of a prompt."""

    logprob: float
    rank: int | None = None
    """1 for the likeliest token of the vocabulary."""
    decoded_token: str | None = None
    """The token's text."""


class CompletionLogProbs(OpenAIBaseModel):
    """Log-probabilities of a text completion: four lists with one entry for each token."""

    text_offset: list[int] = Field(default_factory=list)
    """Where each token's text begins, in characters of the choice's text."""
    token_logprobs: list[float | None] = Field(default_factory=list)
    """Each token's log-probability; null for the first token of an echoed prompt."""
    tokens: list[str] = Field(default_factory=list)
    """Each token's text, or `token_id:<id>` when asked for."""
    top_logprobs: list[dict[str, float] | None] = Field(default_factory=list)
    """The likeliest tokens at each position, and the chosen one, by text."""


class ChatCompletionLogProb(OpenAIBaseModel):
    """One candidate for one position of a message."""

    token: str
    """The token's text, or `token_id:<id>` when asked for."""
    logprob: float = -9999.0
    """Its log-probability; -9999 stands for minus infinity."""
    bytes: list[int] | None = None
    """The token's UTF-8 bytes, as a token can hold part of a character."""


class ChatCompletionLogProbsContent(ChatCompletionLogProb):
    """The token at one position of a message, and its competitors."""

    top_logprobs: list[ChatCompletionLogProb] = Field(default_factory=list)
    """The likeliest tokens at this position, best first."""


class ChatCompletionLogProbs(OpenAIBaseModel):
    """Log-probabilities of a message."""

    content: list[ChatCompletionLogProbsContent] | None = None
    """One entry for each token of the message."""

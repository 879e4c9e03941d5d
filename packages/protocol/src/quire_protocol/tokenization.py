"""Text to token ids and back: what /tokenize, /detokenize and /tokenizer_info read and answer."""

from typing import Annotated, Any, TypeAlias

from pydantic import Discriminator, Tag, WrapValidator

from quire_protocol.base import Many, OpenAIBaseModel, RequestModel
from quire_protocol.conversation import ConversationRequest
from quire_protocol.problems import in_words


class TokenizeCompletionRequest(RequestModel):
    """Turn a text into token ids."""

    model: str | None = None
    """Name of a served model; the server's own when absent."""
    prompt: str
    """The text."""
    add_special_tokens: bool = True
    """Add the tokens that the tokenizer puts around a text, such as one for its beginning."""
    return_token_strs: bool | None = False
    """Return each token's text as well."""


class TokenizeChatRequest(ConversationRequest):
    """Turn a conversation into the token ids of its prompt."""

    model: str | None = None
    """Name of a served model; the server's own when absent."""
    return_token_strs: bool | None = False
    """Return each token's text as well."""


def _what_to_tokenize(body: Any) -> str:
    has_messages = "messages" in body if isinstance(body, dict) else hasattr(body, "messages")
    return "conversation" if has_messages else "text"


TokenizeRequest: TypeAlias = Annotated[
    Annotated[TokenizeCompletionRequest, Tag("text")] | Annotated[TokenizeChatRequest, Tag("conversation")],
    Discriminator(_what_to_tokenize),
    WrapValidator(in_words),
]
"""Either of the two: one that has `messages` is a conversation."""


class TokenizeResponse(OpenAIBaseModel):
    """The token ids."""

    count: int
    """How many there are."""
    max_model_len: int
    """How many the model's context has room for."""
    tokens: list[int]
    """The ids."""
    token_strs: list[str] | None = None
    """Each token's text, when asked for."""


class DetokenizeRequest(RequestModel):
    """Turn token ids into text."""

    model: str | None = None
    """Name of a served model; the server's own when absent."""
    tokens: Many[int]
    """The ids."""


class DetokenizeResponse(OpenAIBaseModel):
    """The text."""

    prompt: str
    """The text that the ids stand for."""


class TokenizerInfoResponse(OpenAIBaseModel):
    """How the tokenizer is set up: its tokenizer_config.json, whatever keys that has."""

    tokenizer_class: str
    """The tokenizer's class."""

"""What requests with messages share: how the conversation becomes a prompt. It renders nothing."""

from typing import Any, Self

from pydantic import model_validator

from quire_protocol.base import Many, RequestModel
from quire_protocol.messages import ChatCompletionMessageParam
from quire_protocol.problems import field_error
from quire_protocol.tools import ChatCompletionToolsParam


class ConversationRequest(RequestModel):
    """Messages, and how the model's chat template turns them into a prompt."""

    messages: Many[ChatCompletionMessageParam]
    """The conversation so far."""
    tools: Many[ChatCompletionToolsParam] | None = None
    """Tools that the model may call: the template shows them to it."""
    add_generation_prompt: bool = True
    """End the prompt with what makes the model answer."""
    continue_final_message: bool = False
    """Leave the last message open, so that the answer continues it; then `add_generation_prompt` is false."""
    add_special_tokens: bool = False
    """Add the tokenizer's special tokens around what the chat template made; most templates have them already."""
    chat_template: str | None = None
    """A Jinja template to use instead of the model's own, if the server allows that."""
    chat_template_kwargs: dict[str, Any] | None = None
    """Further variables for the chat template."""
    mm_processor_kwargs: dict[str, Any] | None = None
    """Further arguments for the model's processor of images, audio and video."""

    @model_validator(mode="after")
    def _ends_in_one_way(self) -> Self:
        if not self.continue_final_message:
            return self
        if "add_generation_prompt" not in self.model_fields_set:
            self.add_generation_prompt = False  # the default would begin another message
        if self.add_generation_prompt:
            problem = "and add_generation_prompt exclude each other: set one of them to false."
            raise field_error("continue_final_message", problem, True)
        return self

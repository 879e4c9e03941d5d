"""How long a prompt and its answer may be together; knows numbers of tokens, nothing of what they say."""

from __future__ import annotations

from dataclasses import dataclass

from quire_engine.errors import PromptTooLong, RequestError


@dataclass(frozen=True, slots=True)
class Answer:
    """How long an answer was asked to be, and by which field of the request."""

    field: str
    asked: int | None
    is_default: bool = False
    """Whether the number is the schema's own: then it gives way where the context ends."""


@dataclass(frozen=True, slots=True)
class Lengths:
    """The limits that model and server set."""

    context: int
    """Tokens that prompt and answer may have together."""
    longest_answer: int | None = None
    """Tokens beyond which the checkpoint's own defaults end an answer."""

    def truncated(self, prompt: list[int], keep: int | None, answer: Answer) -> list[int]:
        """The last `keep` tokens; -1 keeps as many as leave room for the answer, None keeps all."""
        if keep == 0:
            raise RequestError(
                "truncate_prompt_tokens is 0, which leaves no prompt: keep at least 1 token, or -1 for all that fit.",
                param="truncate_prompt_tokens",
            )
        if keep is not None and keep > self.context:
            raise RequestError(
                f"truncate_prompt_tokens is {keep}, but the context has {self.context} tokens: ask for fewer.",
                param="truncate_prompt_tokens",
            )
        if keep == -1:
            keep = self.context - max(answer.asked or 1, 1)
        return prompt[-keep:] if keep is not None and keep > 0 else prompt

    @property
    def far_too_many(self) -> int:
        """Tokens of which nobody needs to know whether there are more: what a cut costs or adds is within them."""
        return 2 * self.context

    def too_long(self, tokens: str, prompt_field: str) -> PromptTooLong:
        """What is wrong with a prompt that leaves no room for an answer."""
        return PromptTooLong(
            f"The prompt has {tokens} tokens, and the context of {self.context} has to hold the answer too. "
            "Shorten it, set truncate_prompt_tokens, or start the server with a larger --max-model-len.",
            param=prompt_field,
        )

    def of_answer(self, answer: Answer, prompt: int, prompt_field: str) -> int:
        """The most tokens the answer to a prompt of this length may have."""
        room = self.context - prompt
        if room < 1:
            raise self.too_long(str(prompt), prompt_field)
        if answer.asked is not None and answer.asked > room and not answer.is_default:
            raise RequestError(
                f"{answer.field} is {answer.asked}, but beside the prompt of {prompt} tokens the context of "
                f"{self.context} has room for {room}. Ask for at most {room}, or leave {answer.field} out.",
                param=answer.field,
            )
        return min(limit for limit in (answer.asked, room, self.longest_answer) if limit is not None)

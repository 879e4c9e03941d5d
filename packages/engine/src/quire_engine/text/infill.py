"""Filling in the middle: how each family of code models marks what stands before and after a gap. It knows no requests.

The model writes what belongs between: its answer follows the markers, and is the middle alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from quire_engine.text.tokenizer import Tokenizer

PREFIX, SUFFIX = "prefix", "suffix"

_SENTINEL = "☺"
"""Behind it a text begins without the space that sentencepiece tokenizers add; it joins no other token."""


@dataclass(frozen=True, slots=True)
class Family:
    """How one family of models was trained to fill gaps."""

    form: tuple[str, ...]
    """Marker tokens, and the places of PREFIX and SUFFIX among them."""
    ends: tuple[str, ...] = ()
    """Tokens that end the middle, beside the model's own end of sequence."""

    @property
    def markers(self) -> tuple[str, ...]:
        """The tokens that a vocabulary must have for this."""
        return tuple(part for part in self.form if part not in (PREFIX, SUFFIX))


FAMILIES: tuple[Family, ...] = (
    # Qwen2.5-Coder (Hui et al. 2024, section 3.2), CodeGemma (CodeGemma team 2024, section 2.2), Granite 4.
    Family(
        ("<|fim_prefix|>", PREFIX, "<|fim_suffix|>", SUFFIX, "<|fim_middle|>"),
        ends=("<|fim_pad|>", "<|repo_name|>", "<|file_sep|>", "<|file_separator|>"),
    ),
    # StarCoder (Li et al. 2023, section 5.1), StarCoder2, Stable Code, Granite Code, CodeQwen1.5.
    Family(
        ("<fim_prefix>", PREFIX, "<fim_suffix>", SUFFIX, "<fim_middle>"),
        ends=("<fim_pad>", "<repo_name>", "<reponame>", "<file_sep>", "<filename>"),
    ),
    # SantaCoder (Ben Allal et al. 2023, model card).
    Family(("<fim-prefix>", PREFIX, "<fim-suffix>", SUFFIX, "<fim-middle>"), ends=("<fim-pad>",)),
    # DeepSeek-Coder and its V2 (Guo et al. 2024, section 3.1.2).
    Family(("<｜fim▁begin｜>", PREFIX, "<｜fim▁hole｜>", SUFFIX, "<｜fim▁end｜>")),
    # Code Llama (Rozière et al. 2023, section 2.3).
    Family(("▁<PRE>", PREFIX, "▁<SUF>", SUFFIX, "▁<MID>"), ends=("▁<EOT>",)),
    # Seed-Coder (ByteDance Seed 2025, section on fill-in-the-middle): the suffix comes first.
    Family(("<[fim-suffix]>", SUFFIX, "<[fim-prefix]>", PREFIX, "<[fim-middle]>")),
    # Codestral and Mistral's other models that can (mistral-common, `encode_fim`): the prefix is open at its end.
    Family(("[SUFFIX]", SUFFIX, "[PREFIX]", PREFIX)),
)
"""Looked up in this order: the first whose markers a vocabulary has."""


@dataclass(frozen=True, slots=True)
class Infill:
    """Fills gaps with one tokenizer."""

    tokenizer: Tokenizer
    family: Family
    ends: tuple[int, ...]
    """Tokens that end the middle."""

    @classmethod
    def of(cls, tokenizer: Tokenizer) -> Infill | None:
        """How this tokenizer's model fills gaps; None if it has markers of no family that is known."""
        for family in FAMILIES:
            if all(tokenizer.token_id(marker) is not None for marker in family.markers):
                ends = tuple(token for name in family.ends if (token := tokenizer.token_id(name)) is not None)
                return cls(tokenizer, family, ends)
        return None

    def prompt(self, prefix: Sequence[int], suffix: str, *, add_special_tokens: bool) -> list[int]:
        """The ids after which the model writes what stands between `prefix` (ids without special ones) and `suffix`."""
        ids = self._opening() if add_special_tokens else []
        for part in self.family.form:
            if part == PREFIX:
                ids += prefix
            elif part == SUFFIX:
                ids += self._continued(suffix)
            else:
                marker = self.tokenizer.token_id(part)
                assert marker is not None, "of() has seen it"
                ids.append(marker)
        return ids

    def _opening(self) -> list[int]:
        """The special tokens that the tokenizer puts before a text. One behind it would end the middle at once."""
        bare = self.tokenizer.encode("a", add_special_tokens=False)
        whole = self.tokenizer.encode("a", add_special_tokens=True)
        starts = (start for start in range(len(whole)) if whole[start : start + len(bare)] == bare)
        return whole[: next(starts, 0)]

    def _continued(self, text: str) -> list[int]:
        """The ids of a text that does not stand at a beginning: without the space that some tokenizers put there."""
        alone = self.tokenizer.encode(text, add_special_tokens=False)
        if not self._opens_with_space():
            return alone
        head = self.tokenizer.encode(_SENTINEL, add_special_tokens=False)
        behind = self.tokenizer.encode(_SENTINEL + text, add_special_tokens=False)
        return behind[len(head) :] if behind[: len(head)] == head else alone

    def _opens_with_space(self) -> bool:
        """Whether the tokenizer puts a space before a text."""
        pieces, first = self.tokenizer.pieces, self.tokenizer.encode("a", add_special_tokens=False)[:1]
        return pieces is not None and all(pieces[token] in (" ", " a") for token in first)

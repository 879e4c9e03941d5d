"""The demo model's tokenizer: byte-level pairs of its own corpus, ChatML's marks. It knows texts, no model.

A word is the same tokens wherever it stands: the space before it is a token of its own, as is every digit. A model
this small learns to copy by pointing at tokens, and could not if a name were written in one way in a sentence and in
another between quotes. The commonest words of English, which nobody asks to have copied, keep their space.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from tools.demo_model.corpus.tasks import Length, training
from tools.demo_model.render import END_OF_TEXT, END_OF_TURN, MIDDLE, PREFIX, SUFFIX, TEMPLATE, pieces
from transformers import PreTrainedTokenizerFast

ENTRIES = 2048
CONTEXT = 4096
SAMPLES = 20_000
"""Samples of the training part that pairs are counted in."""

SPECIAL = (END_OF_TEXT, "<|im_start|>", END_OF_TURN, PREFIX, SUFFIX, MIDDLE)
"""What no text shows: `skip_special_tokens` leaves these out."""
MARKS = ("<think>", "</think>", "<tool_call>", "</tool_call>", "<tool_response>", "</tool_response>")
"""What formats look for in the text."""

JOINED = "a|an|and|are|as|at|by|can|did|do|does|for|from|in|is|it|not|of|on|or|so|that|the|then|this|to|was|with"
"""Words that keep the space before them."""

SPLIT = Regex(rf" (?:{JOINED})(?!\p{{L}})|\p{{L}}+|\p{{N}}| ?[^\s\p{{L}}\p{{N}}]+[\r\n]*|\s*[\r\n]+| |\s+")


def make(samples: int = SAMPLES, entries: int = ENTRIES, seed: int = 0) -> PreTrainedTokenizerFast:
    """Count pairs in so many samples and keep the commonest, up to so many entries in all."""
    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(SPLIT, behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    core.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=entries - len(MARKS),
        special_tokens=list(SPECIAL),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    core.train_from_iterator(texts(samples, seed), trainer)
    core.add_tokens([AddedToken(mark, normalized=False, special=False) for mark in MARKS])
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=core,
        eos_token=END_OF_TURN,
        pad_token=END_OF_TEXT,
        additional_special_tokens=[one for one in SPECIAL if one not in (END_OF_TURN, END_OF_TEXT)],
        model_max_length=CONTEXT,
        clean_up_tokenization_spaces=False,
    )
    tokenizer.chat_template = TEMPLATE.read_text(encoding="utf-8")
    return tokenizer


def texts(samples: int, seed: int) -> Iterator[str]:
    """The texts of so many samples, without marks: those are tokens already."""
    for sample in islice(training(seed, place=-1, lengths=(Length(512, 1),)), samples):
        for piece in pieces(sample):
            text = piece.text
            for mark in (*SPECIAL, *MARKS):
                text = text.replace(mark, "\0")
            yield from filter(None, text.split("\0"))

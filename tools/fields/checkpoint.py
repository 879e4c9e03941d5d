"""A checkpoint on which every field of a request can be seen: tiny, random, and with nothing hidden.

Each printable character is a token, so text, ids and offsets say the same. The tokenizer puts a token before every text
and knows how to fill in the middle; the chat template writes down whatever it is given.
"""

from __future__ import annotations

import base64
import io
import string
from pathlib import Path

import torch
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast, Qwen3Config, Qwen3ForCausalLM

BEGIN, END, OPEN, CLOSE = "<s>", "<|endoftext|>", "<|im_start|>", "<|im_end|>"
MIDDLE = ("<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>")
SPECIAL = (END, OPEN, CLOSE, BEGIN, *MIDDLE)
CHARACTERS = (*sorted(set(string.printable) - set("\t\r\v\f")),)
CONTEXT = 2048
HIDDEN = 64

TEMPLATE = """
{%- for message in messages %}{{ '<|im_start|>' + message.role + ' ' + message.content + '<|im_end|>' }}{% endfor %}
{%- for tool in tools or [] %}{{ tool | tojson + '<tool_call></tool_call>' }}{% endfor %}
{%- for document in documents or [] %}{{ document.text }}{% endfor %}
{%- if reasoning_effort is defined %}{{ 'effort ' + reasoning_effort }}{% endif %}
{%- if mood is defined %}{{ 'mood ' + mood }}{% endif %}
{%- if add_generation_prompt %}{{ '<|im_start|>assistant ' + ('<think>' if think else '') }}{% endif %}
"""


def save(folder: Path) -> Path:
    """Write the checkpoint; equal versions of torch and transformers write equal files."""
    torch.manual_seed(0)
    config = Qwen3Config(
        vocab_size=len(SPECIAL) + len(CHARACTERS),
        hidden_size=HIDDEN,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=64,
        max_position_embeddings=CONTEXT,
        initializer_range=0.3,
        eos_token_id=SPECIAL.index(CLOSE),
        bos_token_id=None,
        pad_token_id=SPECIAL.index(END),
        tie_word_embeddings=False,
    )
    model = Qwen3ForCausalLM(config)
    with torch.no_grad():
        # Of the special tokens only the last of an answer is ever likely, so that nearly all of an answer is text.
        model.lm_head.weight[[token for token in range(len(SPECIAL)) if token != config.eos_token_id]] = 0
    model.save_pretrained(folder)
    tokenizer().save_pretrained(folder)
    return folder


def embeds() -> str:
    """A prompt of three embeddings for this checkpoint: base64 of what torch.save writes."""
    buffer = io.BytesIO()
    torch.save(torch.ones(3, HIDDEN), buffer)
    return base64.b64encode(buffer.getvalue()).decode()


def tokenizer() -> PreTrainedTokenizerFast:
    """One token for each character."""
    vocabulary = {token: number for number, token in enumerate((*SPECIAL, *CHARACTERS))}
    core = Tokenizer(models.WordLevel(vocabulary, unk_token="?"))
    core.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\S]"), behavior="isolated")
    core.decoder = decoders.Fuse()
    core.post_processor = processors.TemplateProcessing(
        single=f"{BEGIN} $A", special_tokens=[(BEGIN, vocabulary[BEGIN])]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=core,
        pad_token=END,
        eos_token=CLOSE,
        additional_special_tokens=[OPEN, BEGIN, *MIDDLE],
        chat_template=TEMPLATE.strip(),
    )

"""A tiny random model that says what it is told to: the user's message holds its lines, and a package speaks them.

`[[…]]` in the last message of the user is what the model says in its next turn, and a second one what it says in the
turn after that, and so on: so tool loops of real clients have an end. The lines are pushed, not forced: what holds an
answer to a form stands above them.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import tokenizers
import torch
from tests.support.tokenizer_kinds import write_checkpoint
from tokenizers import AddedToken, decoders, models, pre_tokenizers
from transformers import Qwen3Config, Qwen3ForCausalLM

END, TURN = "<|end|>", "<|turn|>"
MARKS = ("<think>", "</think>", "<tool_call>", "</tool_call>")
CONTEXT = 4096

TEMPLATE = """
{%- for tool in tools or [] %}{{ tool | tojson + '\\n' }}{% endfor %}
{%- for message in messages %}{{ '<|turn|>' + message.role + '\\n' }}
{%- if message.content %}{{ message.content }}{% endif %}
{%- for call in message.tool_calls or [] %}
{{- '<tool_call>\\n{"name": "' + call.function.name + '", "arguments": ' + call.function.arguments | tojson + '}\\n</tool_call>' }}
{%- endfor %}{{ '<|end|>\\n' }}{% endfor %}
{%- if add_generation_prompt %}{{ '<|turn|>assistant\\n' + ('<think>\\n' if thinks else '') }}{% endif %}
""".strip()  # noqa: E501

MODULE = '''
def act():
    """For every request: pushes the next piece of its lines."""
    return play

def play(prompt, output, logits):
    """The token with which the lines go on; the end, where there are no more or the answer has left them."""
    said, lines = text(output), lines_of(text(prompt))
    if lines is None:
        return logits
    rest = lines[len(said):] if lines.startswith(said) else ""
    longest = max((token for token in VOCABULARY if rest.startswith(token)), key=len) if rest else END
    logits[VOCABULARY[longest]] += 1000.0
    return logits

def lines_of(conversation):
    """What is to be said in the turn that the conversation has begun."""
    before, _, after = conversation.rpartition(TURN + "user\\n")
    lines = [part.partition("]]")[0] for part in after.partition(END)[0].split("[[")[1:]]
    turn = after.count(TURN + "assistant\\n") - 1
    begun = conversation.rpartition(TURN + "assistant\\n")[2]
    return lines[turn].removeprefix(begun) if 0 <= turn < len(lines) else None

def text(ids):
    return "".join(TOKENS.get(token, "?") for token in ids)
'''


@dataclass(frozen=True)
class Actor:
    """Where the two parts lie."""

    model: Path
    package: Path
    """To be put on the path of the server's process."""

    @property
    def flags(self) -> tuple[str, ...]:
        """What `quire serve` is told."""
        return (str(self.model), "--dtype", "float32", "--logits-processors", "actor.act")


def write_actor(folder: Path, *, special_marks: bool = False, end: str = END) -> Actor:
    """Write both; `special_marks` says whether the marks of reasoning and calls are special tokens. `end` is the token
    that ends a turn, for formats to whom the usual one means something else.
    """
    backend = _tokenizer(special_marks, end)
    model = _model(folder / "model", backend.get_vocab_size())
    write_checkpoint(model, backend, eos_token=end, chat_template=TEMPLATE.replace(END, end))
    package = folder / "package"
    package.mkdir()
    vocabulary = {backend.decode([token], skip_special_tokens=False): token for token in range(128)}
    vocabulary |= {token: backend.token_to_id(token) for token in (end, TURN, *MARKS)}
    tables = f"VOCABULARY = {vocabulary!r}\nTOKENS = {{token: text for text, token in VOCABULARY.items()}}\n"
    (package / "quire_test_actor.py").write_text(f"END, TURN = {end!r}, {TURN!r}\n{tables}{MODULE}")
    metadata = package / "quire_test_actor-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: quire-test-actor\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text("[quire.logits_processors]\nactor.act = quire_test_actor:act\n")
    return Actor(model, package)


def _tokenizer(special_marks: bool, end: str) -> tokenizers.Tokenizer:
    """A token for each byte, ASCII's first and in order, and one for each mark."""
    disguises = [character for _, character in sorted(_disguised().items())]
    tokenizer = tokenizers.Tokenizer(models.BPE({each: place for place, each in enumerate(disguises)}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([end, TURN])
    tokenizer.add_tokens([AddedToken(mark, special=special_marks, normalized=False) for mark in MARKS])
    return tokenizer


def _disguised() -> dict[int, str]:
    """How byte-level tokenizers write each byte: as itself where it can be seen, else as the next free character."""
    seen = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    unseen = [byte for byte in range(256) if byte not in seen]
    return {byte: chr(byte) for byte in seen} | {byte: chr(256 + place) for place, byte in enumerate(unseen)}


def _model(folder: Path, vocabulary: int) -> Path:
    torch.manual_seed(0)
    config = Qwen3Config(
        vocab_size=vocabulary,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=16,
        max_position_embeddings=CONTEXT,
        bos_token_id=None,
        eos_token_id=256,
        pad_token_id=None,
        tie_word_embeddings=False,
    )
    Qwen3ForCausalLM(config).save_pretrained(folder)
    return folder

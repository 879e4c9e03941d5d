"""Ids, texts and special tokens are what transformers makes of the same files, without importing transformers."""

from __future__ import annotations

import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.support.tokenizer_kinds import KINDS, byte_fallback_bpe, byte_level_bpe, tokenizer_of, write_checkpoint
from tokenizers import pre_tokenizers
from transformers import PreTrainedTokenizerFast

from quire_engine.errors import ConfigError
from quire_engine.text.pieces import _byte_alphabet
from quire_engine.text.tokenizer import Tokenizer

kinds = pytest.mark.parametrize("kind", KINDS)
texts = st.text(alphabet=st.characters(codec="utf-8"), max_size=40)
TEMPLATE = "{% for m in messages %}{{ m.content }}{% endfor %}"


@pytest.fixture(scope="module", params=KINDS)
def pair(request, tmp_path_factory):
    """Our tokenizer and transformers', of the same files."""
    folder = tmp_path_factory.mktemp("checkpoint")
    write_checkpoint(
        folder,
        KINDS[request.param](),
        eos_token="<|end|>",
        bos_token={
            "__type": "AddedToken",
            "content": "<|begin|>",
            "lstrip": False,
            "rstrip": False,
            "normalized": False,
        },
        image_token="<|image|>",
    )
    return Tokenizer.load(folder), PreTrainedTokenizerFast.from_pretrained(folder)


@given(text=texts, add=st.booleans(), skip=st.booleans())
def test_encodes_and_decodes_as_transformers(pair, text, add, skip):
    ours, theirs = pair
    text = f"<|user|>{text}<|image|><|begin|>"
    ids = ours.encode(text, add)
    assert ids == theirs.encode(text, add_special_tokens=add)
    assert ours.decode(ids, skip) == theirs.decode(ids, skip_special_tokens=skip)


def test_special_tokens_are_those_of_transformers(pair):
    ours, theirs = pair
    assert ours.vocab_size == len(theirs)
    assert ours.eos_token_id == theirs.eos_token_id
    assert ours.special_ids == {i for i, token in theirs.added_tokens_decoder.items() if token.special}
    for role in ("eos_token", "bos_token", "image_token"):
        assert ours.special_tokens[role] == getattr(theirs, role)


def test_tokens_that_only_the_config_lists_are_added_under_their_ids(tmp_path):
    backend = byte_level_bpe()
    size = backend.get_vocab_size()
    token = {"content": "<tool>", "lstrip": False, "rstrip": False, "normalized": False, "special": False}
    write_checkpoint(tmp_path, backend, added_tokens_decoder={str(size): token})
    tokenizer = Tokenizer.load(tmp_path)
    assert tokenizer.encode("<tool>") == [size]
    assert tokenizer.vocab_size == size + 1
    assert size not in tokenizer.special_ids


def test_older_checkpoints_have_their_special_tokens_in_a_file_of_their_own(tmp_path):
    write_checkpoint(tmp_path, byte_level_bpe())
    (tmp_path / "special_tokens_map.json").write_text(json.dumps({"eos_token": {"content": "<|end|>"}}))
    assert Tokenizer.load(tmp_path).special_tokens == {"eos_token": "<|end|>"}


def test_truncation_and_padding_saved_with_a_tokenizer_are_not_applied(tmp_path):
    backend = byte_level_bpe()
    backend.enable_truncation(2)
    backend.enable_padding(length=8)
    assert len(Tokenizer.load(write_checkpoint(tmp_path, backend)).encode("abcdef")) > 2


def test_a_template_comes_from_its_file_first_then_from_the_config(tmp_path):
    write_checkpoint(tmp_path, byte_level_bpe(), chat_template="from the config")
    assert Tokenizer.load(tmp_path).chat_template == "from the config"
    (tmp_path / "chat_template.jinja").write_text("from the file")
    assert Tokenizer.load(tmp_path).chat_template == "from the file"


def test_a_checkpoint_may_have_a_template_for_tools(tmp_path):
    templates = [{"name": "default", "template": "plain"}, {"name": "tool_use", "template": "tools"}]
    tokenizer = Tokenizer.load(write_checkpoint(tmp_path, byte_level_bpe(), chat_template=templates))
    assert (tokenizer.template_for(False), tokenizer.template_for(True)) == ("plain", "tools")
    assert tokenizer.apply_chat_template([{"role": "user", "content": "x"}], tools=[{}]) == "tools"


def test_templates_see_special_tokens_which_variables_override(tmp_path):
    template = "{{ bos_token }}{{ eos_token }}{{ colour }}"
    checkpoint = write_checkpoint(tmp_path, byte_level_bpe(), eos_token="<|end|>", chat_template=template)
    tokenizer = Tokenizer.load(checkpoint)
    assert tokenizer.apply_chat_template([{}], colour="red") == "<|end|>red"
    assert tokenizer.apply_chat_template([{}], eos_token="!") == "!"


def test_info_is_the_config_with_the_declared_class_and_the_template(tmp_path):
    checkpoint = write_checkpoint(tmp_path, byte_level_bpe(), eos_token="<|end|>", model_max_length=99)
    (checkpoint / "chat_template.jinja").write_text(TEMPLATE)
    assert Tokenizer.load(checkpoint).info() == {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "eos_token": "<|end|>",
        "model_max_length": 99,
        "chat_template": TEMPLATE,
    }


@pytest.mark.parametrize("kind", ["byte-level", "byte-fallback", "byte-fallback-unstripped", "unigram"])
def test_token_bytes_together_are_the_text(kind):
    tokenizer = tokenizer_of(kind)
    text = "the Größe 日本 𝄞 dog"
    ids = tokenizer.encode(text, add_special_tokens=False)
    together = b"".join(map(tokenizer.token_bytes, ids))
    assert together.decode().lstrip(" ") == tokenizer.decode(ids, skip_special_tokens=False).lstrip(" ")


def test_token_bytes_are_exact_where_the_token_is_part_of_a_character():
    level, fallback = tokenizer_of("byte-level"), tokenizer_of("byte-fallback")
    for tokenizer in (level, fallback):
        ids = tokenizer.encode("𝄞", add_special_tokens=False)[-4:]
        assert [tokenizer.token_bytes(token_id) for token_id in ids] == [b"\xf0", b"\x9d", b"\x84", b"\x9e"]
        assert [tokenizer.token_text(token_id) for token_id in ids] == ["\ufffd"] * 4
    assert fallback.token_bytes(fallback.encode("x the")[-1]) == b"e"


@kinds
def test_token_text_is_what_the_id_decodes_to_alone(kind):
    tokenizer = tokenizer_of(kind)
    for token_id in range(tokenizer.vocab_size):
        assert tokenizer.token_text(token_id) == tokenizer.decode([token_id], skip_special_tokens=False)


def test_the_byte_alphabet_is_that_of_byte_level_tokenizers():
    alphabet = _byte_alphabet()
    assert set(alphabet) == set(pre_tokenizers.ByteLevel.alphabet())
    assert sorted(alphabet.values()) == list(range(256))


def test_ids_without_a_token_add_nothing():
    tokenizer = tokenizer_of("byte-level")
    assert tokenizer.decode([*tokenizer.encode("a"), 10**6]) == "a"
    assert tokenizer.token_bytes(10**6) == b""


@kinds
def test_lone_surrogates_are_no_text(kind):
    with pytest.raises(UnicodeEncodeError):
        tokenizer_of(kind).encode("a\ud83db")


def test_many_threads_share_a_tokenizer():
    tokenizer = tokenizer_of("byte-level")
    wanted = [f"text number {number} " * 20 for number in range(100)]
    with ThreadPoolExecutor(8) as threads:
        ids = list(threads.map(tokenizer.encode, wanted))
        assert list(threads.map(tokenizer.decode, ids)) == wanted


def test_a_checkpoint_without_a_tokenizer_json_is_read_by_transformers(tmp_path):
    tokens = ["<pad>", "</s>", "<unk>", *(chr(letter) for letter in range(97, 123))]
    (tmp_path / "vocab.txt").write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *tokens]))
    config = {"tokenizer_class": "BertTokenizer", "sep_token": "[SEP]", "unk_token": "[UNK]"}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config))
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "bert"}))
    tokenizer = Tokenizer.load(tmp_path)
    assert tokenizer.decode(tokenizer.encode("a b")) == "a b"


def test_tokenizer_code_of_the_checkpoint_runs_only_when_trusted(tmp_path):
    (tmp_path / "own.py").write_text(
        "from transformers import PreTrainedTokenizer\n"
        "class Own(PreTrainedTokenizer):\n"
        "    def __init__(self, **kwargs):\n"
        "        super().__init__(eos_token='!', **kwargs)\n"
        "    @property\n"
        "    def vocab_size(self): return 128\n"
        "    def get_vocab(self): return {chr(i): i for i in range(128)}\n"
        "    def _tokenize(self, text): return list(text)\n"
        "    def _convert_token_to_id(self, token): return ord(token)\n"
        "    def _convert_id_to_token(self, index): return chr(index)\n"
        "    def convert_tokens_to_string(self, tokens): return ''.join(tokens)\n"
        "    def save_vocabulary(self, *args, **kwargs): return ()\n"
    )
    config = {"tokenizer_class": "Own", "auto_map": {"AutoTokenizer": ["own.Own", None]}}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config))
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "qwen2"}))
    with pytest.raises(ConfigError, match="--trust-remote-code"):
        Tokenizer.load(tmp_path)
    tokenizer = Tokenizer.load(tmp_path, trust_remote_code=True)
    ids = tokenizer.encode("hi!", add_special_tokens=False)
    assert ids == [104, 105, 33]
    assert tokenizer.eos_token_id == 33
    assert tokenizer.decode(ids) == "hi"
    assert tokenizer.token_bytes(104) == b"h"


@pytest.mark.parametrize("content", [{"tokenizer.json": "{}"}, {"tokenizer.json": "x"}, {"tokenizer_config.json": "["}])
def test_files_that_cannot_be_read_are_named(tmp_path, content):
    write_checkpoint(tmp_path, byte_fallback_bpe())
    for name, text in content.items():
        (tmp_path / name).write_text(text)
    with pytest.raises(ConfigError, match=next(iter(content))):
        Tokenizer.load(tmp_path)


def test_a_folder_that_is_not_there_is_named():
    with pytest.raises(ConfigError, match="/no/such/folder"):
        Tokenizer.load("/no/such/folder")


def test_reading_a_tokenizer_json_imports_neither_torch_nor_transformers(tmp_path: Path):
    checkpoint = write_checkpoint(tmp_path, byte_level_bpe(), chat_template=TEMPLATE)
    program = (
        "import sys\n"
        "import quire_engine.text.output, quire_engine.text.template\n"
        "from quire_engine.text.tokenizer import Tokenizer\n"
        f"tokenizer = Tokenizer.load({str(checkpoint)!r})\n"
        "tokenizer.apply_chat_template([{'content': 'x'}])\n"
        "print(sorted({'torch', 'transformers', 'huggingface_hub', 'openai'} & sys.modules.keys()))\n"
    )
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
    assert run.stdout.strip() == "[]"

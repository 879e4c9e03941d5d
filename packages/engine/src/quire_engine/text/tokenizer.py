"""Text to token ids and back; knows a tokenizer's files, not what is done with its ids.

A checkpoint with a tokenizer.json is read by the tokenizers library alone, which costs a tenth of importing
transformers and can be used from many threads at once. transformers reads the others.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from inspect import signature
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, cast

import tokenizers

from quire_engine.errors import ConfigError, RequestError
from quire_engine.text.pieces import Pieces, pieces_of
from quire_engine.text.sandbox import ChatTemplate

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_FILES = ["*token*", "*.model", "*.tiktoken", "vocab*", "merges*", "*.jinja", "config.json", "*.py"]
"""What is fetched for a tokenizer on the Hub: everything but weights."""

_ROLES = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")
"""The special tokens that every tokenizer may have; a checkpoint can name more."""


class Codec(Protocol):
    """The part of a tokenizer that turns text into ids and ids into text."""

    size: int
    special_ids: frozenset[int]
    marks: Mapping[str, int]
    pieces: Pieces | None
    spaces_special_tokens: bool

    def encode(self, text: str, add_special_tokens: bool) -> list[int]:
        """The ids of this text. UnicodeEncodeError if it holds lone surrogates."""

    def decode(self, ids: Sequence[int], skip_special_tokens: bool, spaced: bool) -> str:
        """The text of these ids."""

    def token_id(self, name: str) -> int | None:
        """The id of a token as the vocabulary writes it; None if it has no such token."""


class Tokenizer:
    """A checkpoint's tokenizer and chat template. Immutable, and safe to use from many threads."""

    def __init__(self, codec: Codec, config: Mapping[str, Any], templates: Mapping[str, str]) -> None:
        self._codec = codec
        self._config = config
        self._templates = templates
        self.vocab_size = codec.size
        """Token ids are below this."""
        self.special_ids = codec.special_ids
        """The ids that `skip_special_tokens` leaves out of a text."""
        self.marks = codec.marks
        """Tokens that are no part of free text: the special ones, and added ones in angle brackets."""
        self.pieces = codec.pieces
        """What each token adds to a text, for a tokenizer that joins tokens end to end."""
        self.special_tokens = {role: str(_content(token)) for role, token in _special_tokens(config).items()}
        """Special tokens by role (`bos_token`, `eos_token`, …), as chat templates see them."""
        self.eos_token_id = self._id_of("eos_token")
        """The token that ends a text, as the tokenizer's own files say."""

    @classmethod
    def load(cls, path: str | Path, *, revision: str | None = None, trust_remote_code: bool = False) -> Tokenizer:
        """The tokenizer in this folder, or of this repository on the Hub. ConfigError if it cannot be read."""
        folder = _folder(path, revision)
        config = _read_config(folder)
        if (folder / "tokenizer.json").is_file() and not (trust_remote_code and "auto_map" in config):
            codec: Codec = FastCodec(_read_backend(folder, config))
            return cls(codec, config, _read_templates(folder, config))
        return _load_with_transformers(folder, config, trust_remote_code)

    def encode(self, text: str, add_special_tokens: bool = True) -> list[int]:
        """The ids of this text. UnicodeEncodeError if it holds lone surrogates, which are no text."""
        return self._codec.encode(text, add_special_tokens)

    def decode(self, ids: Sequence[int], skip_special_tokens: bool = True, *, spaced: bool = True) -> str:
        """The text of these ids; ids without a token add nothing. `spaced` puts spaces around special tokens
        where the tokenizer knows how to (only those that transformers runs in Python do)."""
        return self._codec.decode(ids, skip_special_tokens, spaced)

    def token_text(self, token_id: int) -> str:
        """What this id decodes to alone; U+FFFD stands for parts of characters."""
        return self._codec.decode([token_id], False, False)

    def token_bytes(self, token_id: int) -> bytes:
        """The bytes this id adds to a text, exact also where they are only part of a character."""
        piece = self.token_text(token_id) if self.pieces is None else self.pieces[token_id]
        return piece if isinstance(piece, bytes) else piece.encode()

    def token_id(self, name: str) -> int | None:
        """The id of a token as the vocabulary writes it; None if it has no such token."""
        return self._codec.token_id(name)

    @property
    def spaces_special_tokens(self) -> bool:
        """Whether it puts spaces between special tokens in a text, unless told not to."""
        return self._codec.spaces_special_tokens

    @property
    def chat_template(self) -> str | None:
        """The chat template, or the one called default where there are several."""
        return self._templates.get("default")

    def template_for(self, tools: bool) -> str:
        """The chat template to use with or without tools: some checkpoints have one of their own for tool use."""
        template = (self._templates.get("tool_use") if tools else None) or self.chat_template
        if template is None:
            raise RequestError(
                "This model has no chat template, so messages cannot become a prompt: use /v1/completions, or start "
                "the server with --chat-template.",
                param="messages",
            )
        return template

    def apply_chat_template(
        self,
        messages: Sequence[Mapping[str, Any]],
        /,
        *,
        tools: Sequence[Mapping[str, Any]] | None = None,
        documents: Sequence[Mapping[str, Any]] | None = None,
        chat_template: str | None = None,
        add_generation_prompt: bool = True,
        continue_final_message: bool = False,
        **variables: Any,
    ) -> str:
        """The prompt that a chat template (the tokenizer's own, if none is given) makes of a conversation.

        `variables` are further ones for the template. RequestError when it makes no prompt of these messages.
        """
        template = ChatTemplate.of(chat_template or self.template_for(tools is not None))
        return template.render(
            messages,
            tools=tools,
            documents=documents,
            add_generation_prompt=add_generation_prompt,
            continue_final_message=continue_final_message,
            variables=self.special_tokens | variables,
        )

    def info(self) -> dict[str, Any]:
        """The content of tokenizer_config.json, with the class it names and the chat template."""
        declared = self._config.get("tokenizer_class") or "PreTrainedTokenizerFast"
        return {**self._config, "tokenizer_class": declared, "chat_template": self.chat_template}

    def _id_of(self, role: str) -> int | None:
        token = self.special_tokens.get(role)
        return None if token is None else self._codec.token_id(token)


class FastCodec:
    """A tokenizer of the tokenizers library."""

    spaces_special_tokens = False

    def __init__(self, backend: tokenizers.Tokenizer) -> None:
        self._backend = backend
        added = backend.get_added_tokens_decoder()
        self.size = max([backend.get_vocab_size(), *(token_id + 1 for token_id in added)])
        self.special_ids = frozenset(token_id for token_id, token in added.items() if token.special)
        self.marks: Mapping[str, int] = _marks(added)
        self.pieces = pieces_of(backend, backend.decoder)

    def encode(self, text: str, add_special_tokens: bool) -> list[int]:
        """The ids of this text. UnicodeEncodeError if it holds lone surrogates."""
        try:
            # The batch form alone can leave out the offsets, a third of the time for long texts.
            return self._backend.encode_batch_fast([text], add_special_tokens=add_special_tokens)[0].ids
        except TypeError:
            text.encode()  # the library calls a lone surrogate a wrong type
            raise

    def decode(self, ids: Sequence[int], skip_special_tokens: bool, spaced: bool) -> str:
        """The text of these ids."""
        return self._backend.decode(ids, skip_special_tokens=skip_special_tokens)

    def token_id(self, name: str) -> int | None:
        """The id of a token as the vocabulary writes it."""
        return self._backend.token_to_id(name)


class PythonCodec:
    """A tokenizer that transformers runs in Python, one that came with a checkpoint's own code for instance."""

    pieces: Pieces | None = None

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self._tokenizer = tokenizer
        self.spaces_special_tokens = "spaces_between_special_tokens" in signature(tokenizer._decode).parameters
        self._ids: dict[str, int] = {**tokenizer.get_vocab(), **tokenizer.added_tokens_encoder}
        self.size = len(tokenizer)
        self.special_ids = frozenset(tokenizer.all_special_ids)
        self.marks: Mapping[str, int] = _marks(tokenizer.added_tokens_decoder)

    def encode(self, text: str, add_special_tokens: bool) -> list[int]:
        """The ids of this text. UnicodeEncodeError if it holds lone surrogates."""
        text.encode()
        return cast("list[int]", self._tokenizer.encode(text, add_special_tokens=add_special_tokens))

    def decode(self, ids: Sequence[int], skip_special_tokens: bool, spaced: bool) -> str:
        """The text of these ids."""
        text = self._tokenizer.decode(
            list(ids), skip_special_tokens=skip_special_tokens, spaces_between_special_tokens=spaced
        )
        return cast(str, text)

    def token_id(self, name: str) -> int | None:
        """The id of a token as the vocabulary writes it."""
        return self._ids.get(name)


def _marks(added: Mapping[int, tokenizers.AddedToken]) -> dict[str, int]:
    """The added tokens that are no part of free text. llguidance draws the line here too."""
    return {
        token.content: token_id
        for token_id, token in added.items()
        if token.special or (token.content.startswith("<") and token.content.endswith(">"))
    }


def _folder(path: str | Path, revision: str | None) -> Path:
    """The folder of a local tokenizer, or of one fetched from the Hub."""
    folder = Path(path)
    if folder.is_dir():
        return folder
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(str(path), revision=revision, allow_patterns=_FILES))
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        raise ConfigError(
            f"No tokenizer at {str(path)!r}: it is no local folder, and the Hub did not give it ({error}). "
            "Name a folder or a repository with --tokenizer."
        ) from error


def _read_config(folder: Path) -> dict[str, Any]:
    """tokenizer_config.json, with what older checkpoints keep in special_tokens_map.json."""
    config = _read_json(folder / "tokenizer_config.json")
    if "added_tokens_decoder" not in config:
        config |= _read_json(folder / "special_tokens_map.json")
    return config


def _read_json(file: Path) -> dict[str, Any]:
    """The object in this file, empty when there is no such file."""
    try:
        content = json.loads(file.read_text("utf-8"))
    except FileNotFoundError:
        return {}
    except ValueError as error:
        raise ConfigError(f"{file} is not JSON: {error}") from error
    if not isinstance(content, dict):
        raise ConfigError(f"{file} should hold a JSON object, not a {type(content).__name__}.")
    return content


def _read_backend(folder: Path, config: Mapping[str, Any]) -> tokenizers.Tokenizer:
    """The tokenizer in tokenizer.json, with the tokens that only tokenizer_config.json names."""
    try:
        backend = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
    except Exception as error:  # the library raises nothing more precise
        raise ConfigError(f"{folder / 'tokenizer.json'} cannot be read as a tokenizer: {error}") from error
    backend.no_truncation()
    backend.no_padding()
    backend.encode_special_tokens = bool(config.get("split_special_tokens", False))
    listed = sorted(config.get("added_tokens_decoder", {}).items(), key=lambda item: int(item[0]))
    for tokens in ([token for _, token in listed], _special_tokens(config).values()):
        known = {token.content for token in backend.get_added_tokens_decoder().values()}
        backend.add_tokens([_added(token) for token in tokens if _content(token) not in known])
    return backend


def _added(token: str | Mapping[str, Any]) -> tokenizers.AddedToken:
    """An added token as the files write it: its text, or its text and flags."""
    if isinstance(token, str):
        return tokenizers.AddedToken(token, special=True, normalized=False)
    flags = {key: token[key] for key in ("single_word", "lstrip", "rstrip", "normalized", "special") if key in token}
    return tokenizers.AddedToken(token["content"], **{"special": True, **flags})


def _special_tokens(config: Mapping[str, Any]) -> dict[str, str | Mapping[str, Any]]:
    """Special tokens by role, as the files write them; in the order in which transformers numbers new ones."""
    roles = [*_ROLES, *(key for key in config if key.endswith("_token") and key not in _ROLES)]
    return {role: config[role] for role in roles if _content(config.get(role)) is not None}


def _content(token: object) -> str | None:
    """The text of a special token as the files write it, None for anything else."""
    if isinstance(token, Mapping):
        token = token.get("content")
    return token if isinstance(token, str) else None


def _read_templates(folder: Path, config: Mapping[str, Any]) -> dict[str, str]:
    """Chat templates by name: files of their own, else those in tokenizer_config.json."""
    files = {"default": folder / "chat_template.jinja"}
    files |= {file.stem: file for file in sorted((folder / "additional_chat_templates").glob("*.jinja"))}
    templates = {name: file.read_text("utf-8") for name, file in files.items() if file.is_file()}
    return templates or _templates(config.get("chat_template"))


def _templates(declared: object) -> dict[str, str]:
    """Chat templates by name, from the forms a tokenizer's config has for them."""
    match declared:
        case str():
            return {"default": declared}
        case Mapping():
            return dict(declared)
        case list():
            return {entry["name"]: entry["template"] for entry in declared}
        case _:
            return {}


def _load_with_transformers(folder: Path, config: Mapping[str, Any], trust_remote_code: bool) -> Tokenizer:
    """For checkpoints without a tokenizer.json, or with tokenizer code of their own."""
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=trust_remote_code)
    except Exception as error:  # each family's reader raises its own
        raise ConfigError(
            f"transformers cannot read the tokenizer in {folder}: {error}. A tokenizer.json beside the weights "
            "avoids this; --tokenizer names another place; code of the checkpoint's own needs --trust-remote-code."
        ) from error
    codec: Codec
    codec = FastCodec(tokenizer.backend_tokenizer) if tokenizer.is_fast else PythonCodec(tokenizer)
    return Tokenizer(codec, {**config, **tokenizer.special_tokens_map}, _templates(tokenizer.chat_template))

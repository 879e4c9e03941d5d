"""What was asked of the HTTP side (`ServerSettings`); the only module of the server that reads the environment."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator

from quire_engine.errors import ConfigError
from quire_server.hosts import is_loopback
from quire_server.logs import LogFormat
from quire_server.unknown import Policy

if TYPE_CHECKING:
    from quire_server.keys import Keys

AUTO, NONE = "auto", "none"
"""What stands for a format's name: the one that is found, and no format."""


def _keys_of_the_environment() -> tuple[str, ...]:
    key = os.environ.get("QUIRE_API_KEY") or os.environ.get("VLLM_API_KEY")
    return (key,) if key else ()


class ServerSettings(BaseModel):
    """What was asked of the server around the engine. Every field is also a flag of `quire serve`."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    host: str = "127.0.0.1"
    """Address to listen on; 0.0.0.0 opens the server to the network."""
    port: Annotated[int, Field(ge=0, le=65_535)] = 8000
    """Port to listen on; 0 takes a free one."""
    uds: str | None = None
    """Listen on this unix socket instead of an address and a port."""
    api_server_count: Annotated[int, Field(ge=1, le=64)] = 1
    """Processes that answer requests, in front of one engine; where one has not time enough for all streams."""
    root_path: str = ""
    """Path under which a proxy in front publishes this server, and which it takes off before it passes a request on."""
    ssl_keyfile: str | None = None
    """PEM file with the private key: serve over TLS."""
    ssl_certfile: str | None = None
    """PEM file with the certificate chain that belongs to the key."""
    ssl_ca_certs: str | None = None
    """PEM file with the authorities whose certificates clients may bring."""
    ssl_cert_reqs: Annotated[int, Field(ge=0, le=2)] = 0
    """Whether clients need a certificate: 0 no, 1 one that they bring must be right, 2 yes."""
    ssl_ciphers: str | None = None
    """Ciphers for TLS 1.2, in OpenSSL's notation; Python's own choice when absent."""
    enable_ssl_refresh: bool = False
    """Read the certificate and its key again when their files change."""

    served_model_name: tuple[str, ...] = ()
    """Names that requests may give in `model`; answers carry the first. The model's own name when absent."""
    api_key: Annotated[tuple[str, ...], Field(default_factory=_keys_of_the_environment, repr=False)]
    """Keys of which a request must bring one as a bearer token; also read from QUIRE_API_KEY or VLLM_API_KEY."""
    api_key_file: str | None = None
    """File with more keys, one a line, as name:key[:weight] or name:sha256:DIGEST[:weight]; changes are seen."""
    admin_key: Annotated[tuple[str, ...], Field(repr=False)] = ()
    """Keys that open every route, those for administration too; without one these are closed to everybody."""
    public_paths: tuple[str, ...] = ()
    """Paths that need no key, beside /livez, /readyz and /health; /metrics, say."""
    allowed_hosts: tuple[str, ...] = ()
    """Names in `Host` for who needs no key, beside localhost and addresses; * for any, as but for 127.0.0.1 it is."""
    max_body_bytes: Annotated[int, Field(ge=1024)] = 32 * 1024 * 1024
    """Largest request body that is read, in bytes."""
    h11_max_incomplete_event_size: Annotated[int, Field(ge=1024)] = 64 * 1024
    """Largest head of a request, its line and its header fields, in bytes; the name is that of other servers."""
    h11_max_header_count: Annotated[int, Field(ge=8)] = 256
    """Most header fields of a request; the name is that of other servers."""
    timeout_header: Annotated[float, Field(gt=0)] = 20.0
    """Seconds in which the head of a request must be complete, once it has begun."""
    timeout_body: Annotated[float, Field(gt=0)] = 30.0
    """Seconds in which its body must be complete, and a second more for each KiB that is there, up to 10 minutes."""
    timeout_unread: Annotated[float, Field(gt=0)] = 60.0
    """Seconds for which a client may take nothing of what is written to it; then the request is given up."""
    timeout_keep_alive: Annotated[int, Field(ge=1)] = 75
    """Seconds for which a connection is kept for a next request; longer than proxies in front do, or they fail."""

    allowed_origins: tuple[str, ...] = ()
    """Origins whose pages may call this server from a browser (CORS); none unless given."""
    allowed_methods: tuple[str, ...] = ("*",)
    """HTTP methods that those pages may use."""
    allowed_headers: tuple[str, ...] = ("*",)
    """Request headers that those pages may send."""
    allow_credentials: bool = False
    """Let those pages send cookies and credentials."""

    unknown_fields: Policy = "warn"
    """What follows for request fields that nothing here knows: warn in the answer, refuse the request, or ignore them."""  # noqa: E501
    chat_template: str | None = None
    """Jinja chat template, as a file or as the text itself, instead of the tokenizer's own."""
    trust_request_chat_template: bool = False
    """Let requests bring a chat template of their own."""
    response_role: str = "assistant"
    """Role of generated chat messages."""
    return_tokens_as_token_ids: bool = False
    """Name tokens in log-probabilities `token_id:N` for every request, not only for those that ask."""
    enable_prompt_tokens_details: bool = False
    """Report in `usage` how many prompt tokens came from the prefix cache."""
    enable_force_include_usage: bool = False
    """End every stream with a usage chunk, asked for or not."""
    enable_tokenizer_info_endpoint: bool = False
    """Serve the tokenizer's configuration and chat template at GET /tokenizer_info."""
    disable_fastapi_docs: bool = False
    """Serve neither /docs, /redoc nor /openapi.json."""

    tool_call_parser: str = AUTO
    """Format in which the model writes tool calls; auto goes by its chat template, none reads no calls."""
    reasoning_parser: str = AUTO
    """Format in which the model writes its reasoning; auto goes by its chat template, none tells it not apart."""
    tool_strictness: bool = True
    """Hold a tool call to its schema from its first mark on, wherever the model begins one; else only if asked to."""
    exclude_tools_when_tool_choice_none: bool = False
    """Show the model no tools when the request says that none may be called."""
    budget_closing: bool = True
    """Lead an answer that has a form to its end before it is cut by its length, so that it is always complete."""
    default_thinking_token_budget: Annotated[int, Field(ge=0)] | None = None
    """Longest reasoning, in tokens, of requests that do not say; no limit when absent."""

    sse_keep_alive_interval: Annotated[float, Field(ge=0)] = 15.0
    """Seconds of silence after which a stream sends a comment, so that no proxy takes it for dead; 0 sends none."""
    stream_grace: Annotated[float, Field(ge=0)] = 30.0
    """Seconds for which an answer with an Idempotency-Key is kept, or goes on, while nobody reads it; 0 keeps none."""
    max_kept_answers: Annotated[int, Field(ge=1)] = 1024
    """Answers with an Idempotency-Key that are kept at once."""
    max_kept_bytes: Annotated[int, Field(ge=1024)] = 64 * 1024 * 1024
    """Size of all of them together, in bytes; where it is reached, complete ones are forgotten first."""

    request_timeout: Annotated[float, Field(gt=0)] | None = None
    """Seconds that a request may take, waiting included; x-request-timeout may ask for less. No limit when absent."""
    shutdown_timeout: Annotated[float, Field(ge=0)] = 30.0
    """Seconds that running requests get to finish after SIGTERM or Ctrl+C; what is left is then cut off."""
    uvicorn_log_level: Literal["critical", "error", "warning", "info", "debug", "trace"] = "warning"
    """How much the HTTP layer logs."""
    disable_uvicorn_access_log: bool = False
    """Log no line per request, whatever the level."""
    disable_access_log_for_endpoints: tuple[str, ...] = ()
    """Paths of which no line is logged; /health and /metrics, say."""
    enable_log_requests: bool = False
    """Log a line with the parameters of each request to the engine, when it is taken in. Prompts are never logged."""
    log_format: LogFormat = "text"
    """How log lines look: as text, or as JSON objects."""
    otlp_traces_endpoint: str | None = None
    """URL that a span for each generating request is sent to, by OTLP over HTTP; it ends in /v1/traces."""
    enable_per_request_metrics: bool = False
    """Tell in every answer, as `metrics`, how long it took; else in those that ask by `Prefer: metrics`."""

    @field_validator("allowed_origins", "allowed_methods", "allowed_headers", mode="before")
    @classmethod
    def _may_be_written_as_json(cls, words: Any, info: ValidationInfo) -> Any:
        if isinstance(words, list | tuple) and len(words) == 1 and str(words[0]).startswith("["):
            try:
                return json.loads(words[0])
            except ValueError as error:
                raise ValueError(f"{info.field_name} takes words, or a JSON list, which {words[0]} is not") from error
        return words

    @field_validator("api_key", "admin_key")
    @classmethod
    def _is_sent_as_it_is(cls, keys: tuple[str, ...], info: ValidationInfo) -> tuple[str, ...]:
        if any(not key or key != key.strip() or not key.isprintable() for key in keys):
            raise ValueError(f"{info.field_name} must have one visible character at least, and no space around it")
        return keys

    @field_validator("public_paths")
    @classmethod
    def _is_a_path(cls, paths: tuple[str, ...], info: ValidationInfo) -> tuple[str, ...]:
        if wrong := [path for path in paths if not path.startswith("/")]:
            raise ValueError(f"{info.field_name} has {wrong[0]}, which is no path: it begins with a slash, as /metrics")
        return paths

    @field_validator("disable_access_log_for_endpoints")
    @classmethod
    def _are_told_by_commas_too(cls, paths: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(path for word in paths for path in word.split(",") if path)

    @field_validator("tool_call_parser", "reasoning_parser")
    @classmethod
    def _is_a_format(cls, name: str, info: ValidationInfo) -> str:
        from quire_engine.text.formats.reasoning import reasoning_format
        from quire_engine.text.formats.tools import tool_format

        if name not in (AUTO, NONE):
            try:
                (tool_format if info.field_name == "tool_call_parser" else reasoning_format)(name)
            except ConfigError as error:
                raise ValueError(str(error)) from error
        return name

    @property
    def logs_access(self) -> bool:
        """Whether a line is logged for each request."""
        return self.uvicorn_log_level in ("info", "debug", "trace") and not self.disable_uvicorn_access_log

    @property
    def needs_keys(self) -> bool:
        """Whether requests need an API key."""
        from quire_server.keys import asks_for_keys

        return asks_for_keys(self.api_key, self.api_key_file)

    @property
    def minds_hosts(self) -> bool:
        """Whether who brings no key must call the server by a name that is its own.

        Where no name is given, that is where only this machine reaches it, and no certificate keeps other names away.
        """
        is_private = self.uds is None and self.ssl_certfile is None and is_loopback(self.host)
        return not self.needs_keys and (is_private or bool(self.allowed_hosts))

    def read_keys(self) -> Keys:
        """The keys of the server. ConfigError if their file cannot be used."""
        from quire_server.keys import keys_of

        return keys_of(self.api_key, self.admin_key, self.api_key_file)

    def names(self, model: str) -> tuple[str, ...]:
        """The names that requests may give, when the model itself is called `model`."""
        return self.served_model_name or (model,)

    def read_chat_template(self) -> str | None:
        """The chat template's text: what was given, which then has jinja's braces, or the file of that name."""
        given = self.chat_template
        if given is None or "{%" in given or "{{" in given:
            return given
        try:
            return Path(given).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"--chat-template {given} is neither a template nor a file that can be read.") from error

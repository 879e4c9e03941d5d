"""What a server honours and how far: what GET /v1/capabilities answers."""

from quire_protocol.base import OpenAIBaseModel


class RequestCapabilities(OpenAIBaseModel):
    """What becomes of the fields of one kind of request."""

    honoured: list[str]
    """Fields that take effect."""
    refused: dict[str, str]
    """Fields that a request may not set here: field → why."""
    without_effect: dict[str, str]
    """Fields that change nothing here, whatever they say, as `warnings` of the answer tell: field → why."""


class FormatCapabilities(OpenAIBaseModel):
    """Formats of one kind."""

    used: str | None = None
    """The one in which the served model writes; null where there is none."""
    known: list[str]
    """Those that the server could be told to read."""


class Capabilities(OpenAIBaseModel):
    """What a server honours."""

    object: str = "capabilities"
    """What this is."""
    version: str
    """The server's version."""
    models: list[str]
    """Names to ask for."""
    routes: dict[str, list[str]]
    """Path → the methods that it takes."""
    requests: dict[str, RequestCapabilities]
    """Kind of request, as the OpenAPI document calls it → what becomes of its fields."""
    unknown_fields: str
    """What follows for fields that nothing here knows: warn, refuse or ignore."""
    response_formats: list[str]
    """What `response_format.type` may be."""
    structured_outputs: list[str]
    """The constraints that `structured_outputs` may have."""
    tool_calls: FormatCapabilities
    """How calls of tools are written."""
    reasoning: FormatCapabilities
    """How reasoning is told apart."""
    extra_arguments: list[str]
    """What `vllm_xargs` may have."""
    limits: dict[str, float | int | None]
    """How much the server takes, under the names of its flags; null and -1 are no limit."""
    error_reasons: dict[str, str]
    """What `reason` may be in an error → what it means."""

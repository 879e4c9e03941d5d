"""The messages of a conversation and the parts of their content, as plain dicts: chat templates read them as they came.

A message is checked by its role and a part by its type; a role nobody knows is a message all the same, as chat
templates may. Keys that are not named here are kept.
"""

from typing import Annotated, Any, Literal, NotRequired, TypeAlias

from pydantic import ConfigDict, Discriminator, Tag, WithJsonSchema, with_config
from typing_extensions import TypedDict

from quire_protocol.base import Many
from quire_protocol.problems import ToldBy

_open = with_config(ConfigDict(extra="allow"))


@_open
class TextPart(TypedDict):
    """Text."""

    type: Literal["text"]
    text: str


@_open
class RefusalPart(TypedDict):
    """An earlier refusal of the model."""

    type: Literal["refusal"]
    refusal: str


@_open
class ThinkingPart(TypedDict):
    """Earlier reasoning of the model; `closed` says that it had come to its end."""

    type: Literal["thinking"]
    thinking: str
    closed: NotRequired[bool]


@_open
class MediaUrl(TypedDict):
    """Where an image, a sound or a film is: a web address or a data URI."""

    url: str


@_open
class ImageUrl(MediaUrl):
    """Where an image is, and how closely to look at it."""

    detail: NotRequired[Literal["auto", "low", "high"]]


@_open
class ImageUrlPart(TypedDict):
    """An image. `uuid` names it, so that it need not be sent again: the address may then be null."""

    type: NotRequired[Literal["image_url"]]
    image_url: ImageUrl | str | None
    uuid: NotRequired[str | None]


@_open
class AudioUrlPart(TypedDict):
    """A sound by address."""

    type: NotRequired[Literal["audio_url"]]
    audio_url: MediaUrl | str | None
    uuid: NotRequired[str | None]


@_open
class VideoUrlPart(TypedDict):
    """A film by address."""

    type: NotRequired[Literal["video_url"]]
    video_url: MediaUrl | str | None
    uuid: NotRequired[str | None]


@_open
class InputAudio(TypedDict):
    """A sound in base64."""

    data: str
    format: Literal["wav", "mp3"]


@_open
class InputAudioPart(TypedDict):
    """A sound, sent along."""

    type: Literal["input_audio"]
    input_audio: InputAudio | None
    uuid: NotRequired[str | None]


@_open
class ImageEmbedsPart(TypedDict):
    """An image already turned into embeddings: base64 of a tensor, or of several by name."""

    type: Literal["image_embeds"]
    image_embeds: str | dict[str, str] | None
    uuid: NotRequired[str | None]


@_open
class AudioEmbedsPart(TypedDict):
    """A sound already turned into embeddings: base64 of a tensor, or of several by name."""

    type: Literal["audio_embeds"]
    audio_embeds: str | dict[str, str] | None
    uuid: NotRequired[str | None]


@_open
class PromptEmbedsPart(TypedDict):
    """A stretch of the prompt already turned into embeddings: base64 of a tensor."""

    type: Literal["prompt_embeds"]
    prompt_embeds: str


@_open
class FileData(TypedDict):
    """A file in base64, or by its id."""

    file_data: NotRequired[str]
    file_id: NotRequired[str]
    filename: NotRequired[str]


@_open
class FilePart(TypedDict):
    """A file."""

    type: Literal["file"]
    file: FileData


PART_TYPES = (
    "text",
    "image_url",
    "input_audio",
    "audio_url",
    "video_url",
    "image_embeds",
    "audio_embeds",
    "prompt_embeds",
    "refusal",
    "thinking",
    "file",
)
"""The types that a part of a message's content can have."""

_ADDRESSES = ("image_url", "audio_url", "video_url")


def _part_type(part: Any) -> Any:
    """What a part is checked as. A string is text; `{"image_url": …}` and its like may leave out the type."""
    if isinstance(part, dict):
        return part["type"] if "type" in part else next((key for key in _ADDRESSES if key in part), None)
    return "string" if isinstance(part, str) else "text"


ChatCompletionContentPartParam: TypeAlias = Annotated[
    Annotated[str, Tag("string")]
    | Annotated[TextPart, Tag("text")]
    | Annotated[ImageUrlPart, Tag("image_url")]
    | Annotated[InputAudioPart, Tag("input_audio")]
    | Annotated[AudioUrlPart, Tag("audio_url")]
    | Annotated[VideoUrlPart, Tag("video_url")]
    | Annotated[ImageEmbedsPart, Tag("image_embeds")]
    | Annotated[AudioEmbedsPart, Tag("audio_embeds")]
    | Annotated[PromptEmbedsPart, Tag("prompt_embeds")]
    | Annotated[RefusalPart, Tag("refusal")]
    | Annotated[ThinkingPart, Tag("thinking")]
    | Annotated[FilePart, Tag("file")],
    ToldBy(_part_type, f"one of {', '.join(map(repr, PART_TYPES))}", key="type"),
]
"""A part of a message's content."""

Content: TypeAlias = str | Many[ChatCompletionContentPartParam]


@_open
class FunctionCallParam(TypedDict):
    """An earlier call of a function: its arguments as JSON text or as the object itself."""

    name: str
    arguments: NotRequired[str | dict[str, Any] | None]


@_open
class ToolCallParam(TypedDict):
    """An earlier call of a tool."""

    id: NotRequired[str | None]
    type: NotRequired[Literal["function"]]
    function: FunctionCallParam


@_open
class AudioId(TypedDict):
    """An earlier spoken answer."""

    id: str


@_open
class SystemMessage(TypedDict):
    """Instructions that stand above the conversation."""

    role: Literal["system"]
    content: NotRequired[Content]
    name: NotRequired[str | None]


@_open
class DeveloperMessage(TypedDict):
    """Instructions of the application's developer; newer models' word for a system message."""

    role: Literal["developer"]
    content: NotRequired[Content]
    name: NotRequired[str | None]


@_open
class UserMessage(TypedDict):
    """What the user says."""

    role: Literal["user"]
    content: NotRequired[Content]
    name: NotRequired[str | None]


@_open
class AssistantMessage(TypedDict):
    """What the model said: text, tool calls or both, and the reasoning before them under either of its two names."""

    role: Literal["assistant"]
    content: NotRequired[Content | None]
    name: NotRequired[str | None]
    reasoning: NotRequired[str | None]
    reasoning_content: NotRequired[str | None]
    tool_calls: NotRequired[Many[ToolCallParam] | None]
    function_call: NotRequired[FunctionCallParam | None]
    refusal: NotRequired[str | None]
    audio: NotRequired[AudioId | None]


@_open
class ToolMessage(TypedDict):
    """What a tool answered to the call with this id."""

    role: Literal["tool"]
    content: NotRequired[Content]
    tool_call_id: NotRequired[str | None]
    name: NotRequired[str | None]


@_open
class FunctionMessage(TypedDict):
    """What a function answered; the old form of a tool message."""

    role: Literal["function"]
    content: NotRequired[Content | None]
    name: NotRequired[str | None]


_ROLES = frozenset({"system", "developer", "user", "assistant", "tool", "function"})


@_open
class CustomMessage(TypedDict):
    """A message in a role that the model's own chat template knows."""

    role: Annotated[str, WithJsonSchema({"type": "string", "not": {"enum": sorted(_ROLES)}})]
    content: NotRequired[Content]
    name: NotRequired[str | None]
    reasoning: NotRequired[str | None]
    reasoning_content: NotRequired[str | None]
    tool_calls: NotRequired[Many[ToolCallParam] | None]
    tool_call_id: NotRequired[str | None]


def _role(message: Any) -> str:
    """What a message is checked as."""
    role = message.get("role") if isinstance(message, dict) else None
    return role if isinstance(role, str) and role in _ROLES else "custom"


ChatCompletionMessageParam: TypeAlias = Annotated[
    Annotated[SystemMessage, Tag("system")]
    | Annotated[DeveloperMessage, Tag("developer")]
    | Annotated[UserMessage, Tag("user")]
    | Annotated[AssistantMessage, Tag("assistant")]
    | Annotated[ToolMessage, Tag("tool")]
    | Annotated[FunctionMessage, Tag("function")]
    | Annotated[CustomMessage, Tag("custom")],
    Discriminator(_role),
]
"""A message of a conversation."""

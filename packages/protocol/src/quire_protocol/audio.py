"""Speech to text: transcriptions and translations, as asked in a form and as answered; it decodes no audio."""

import time
from collections.abc import Mapping
from types import MappingProxyType
from typing import Annotated, Any, ClassVar, Literal, Protocol, TypeAlias, runtime_checkable

from pydantic import BeforeValidator, Field, PlainValidator, ValidationInfo, WithJsonSchema, field_validator
from pydantic_core import from_json

from quire_protocol.base import Int64, OpenAIBaseModel, RequestModel, random_uuid
from quire_protocol.chat import DeltaMessage
from quire_protocol.sampling import RequestOutputKind, SamplingParams, settled
from quire_protocol.usage import UsageInfo

AudioResponseFormat: TypeAlias = Literal["json", "text", "srt", "verbose_json", "vtt"]


@runtime_checkable
class AudioFile(Protocol):
    """An uploaded file: whatever a form parser or `open(path, "rb")` gives. Its `read` may be a coroutine function.

    A `filename` and a `content_type` are read where an object has them.
    """

    def read(self, size: int = -1, /) -> Any:
        """The next `size` bytes, or all that are left."""


def _readable(value: object) -> object:
    if isinstance(value, AudioFile):
        return value
    raise ValueError(
        f"file must be a file (an object with read), got a {type(value).__name__}; "
        "send it as a file part of a multipart form, or wrap bytes in io.BytesIO."
    )


def _json_text(value: object) -> object:
    """A form can carry a mapping only as JSON text."""
    if not isinstance(value, str):
        return value
    try:
        return from_json(value)
    except ValueError as error:
        raise ValueError(f"vllm_xargs must be a JSON object, and this text is not JSON: {error}.") from None


class _SpeechRequest(RequestModel):
    """What both requests have in common."""

    file: Annotated[AudioFile, PlainValidator(_readable), WithJsonSchema({"type": "string", "format": "binary"})]
    """The recording: flac, mp3, mp4, mpeg, mpga, m4a, ogg, wav or webm."""
    model: str | None = None
    """Name of a served model; the server's own when absent."""
    language: str | None = None
    """Language that is spoken, as an ISO 639-1 code such as `en`; a hint that helps accuracy and speed."""
    prompt: str = ""
    """Text that sets the style or comes just before the recording, in its language."""
    response_format: AudioResponseFormat = "json"
    """Shape of the answer."""
    stream: bool | None = False
    """Answer piece by piece, as server-sent events."""
    stream_include_usage: bool | None = False
    """With `stream`: one more event at the end with the usage. Forms are flat, so stream options are too."""
    stream_continuous_usage_stats: bool | None = False
    """With `stream`: the usage so far on every event."""
    to_language: str | None = None
    """Language of the text, as an ISO 639-1 code, for models that can choose it."""
    temperature: float = 0.0
    """Randomness of the choice of tokens; 0 takes the likeliest."""
    seed: Int64 | None = None
    """Makes sampled text repeatable."""

    @field_validator("stream_include_usage", "stream_continuous_usage_stats")
    @classmethod
    def _stream_options_need_stream(cls, option: bool | None, info: ValidationInfo) -> bool | None:
        if option and not info.data.get("stream"):
            raise ValueError(f"{info.field_name} says how to stream; set stream to true as well, or leave it out.")
        return option

    @property
    def _output_kind(self) -> RequestOutputKind:
        return RequestOutputKind.DELTA if self.stream else RequestOutputKind.FINAL_ONLY


class TranscriptionRequest(_SpeechRequest):
    """Write down what is said, in the language it is said in."""

    timestamp_granularities: list[Literal["word", "segment"]] = Field(alias="timestamp_granularities[]", default=[])
    """What `verbose_json` gives times for; words cost extra time."""
    vllm_xargs: Annotated[dict[str, str | int | float] | None, BeforeValidator(_json_text)] = None
    """Further parameters for extensions of the server; JSON text in a form."""
    top_p: float | None = None
    """Sample among the likeliest tokens that together reach this probability."""
    top_k: int | None = None
    """Sample among this many likeliest tokens."""
    min_p: float | None = None
    """Leave out tokens less likely than this share of the likeliest one's probability."""
    frequency_penalty: float | None = 0.0
    """Lowers a token's logit by this much for each time it was written already."""
    repetition_penalty: float | None = None
    """Divides the positive logits of tokens that occurred already (and multiplies negative ones)."""
    presence_penalty: float | None = 0.0
    """Lowers a token's logit by this much once it was written at all."""

    _DEFAULT_SAMPLING_PARAMS: ClassVar[Mapping[str, float]] = MappingProxyType(
        {"repetition_penalty": 1.0, "top_p": 1.0, "top_k": 0, "min_p": 0.0}
    )

    def to_sampling_params(
        self, default_max_tokens: int, default_sampling_params: Mapping[str, Any] | None = None
    ) -> SamplingParams:
        """How to sample: what the request says, else the server's defaults, else none of each."""
        return SamplingParams.from_optional(
            **settled(self, self._DEFAULT_SAMPLING_PARAMS, default_sampling_params),
            temperature=self.temperature,
            frequency_penalty=self.frequency_penalty,
            presence_penalty=self.presence_penalty,
            seed=self.seed,
            max_tokens=default_max_tokens,
            output_kind=self._output_kind,
            extra_args=dict(self.vllm_xargs) if self.vllm_xargs else None,
        )


class TranslationRequest(_SpeechRequest):
    """Write down what is said, in another language."""

    def to_sampling_params(
        self, default_max_tokens: int, default_sampling_params: Mapping[str, Any] | None = None
    ) -> SamplingParams:
        """How to sample. A translation has its own temperature always, so the server's defaults have no say."""
        return SamplingParams.from_optional(
            temperature=self.temperature,
            seed=self.seed,
            max_tokens=default_max_tokens,
            output_kind=self._output_kind,
        )


class TranscriptionUsageAudio(OpenAIBaseModel):
    """What a transcription is billed by: the length of the recording."""

    type: Literal["duration"] = "duration"
    seconds: int
    """Length of the recording, rounded up."""


class TranscriptionResponse(OpenAIBaseModel):
    """The text alone, with its usage."""

    text: str
    usage: TranscriptionUsageAudio


class TranslationResponse(OpenAIBaseModel):
    """The translated text alone."""

    text: str


class _Word(OpenAIBaseModel):
    end: float
    """Where the word ends, in seconds from the start."""
    start: float
    """Where the word begins, in seconds from the start."""
    word: str


class TranscriptionWord(_Word):
    """One word and when it was said."""


class TranslationWord(_Word):
    """One translated word and when it was said."""


class _Segment(OpenAIBaseModel):
    id: int
    """Number of the segment, from 0."""
    avg_logprob: float | None = None
    """Mean log-probability of its tokens; far below -1, do not trust it."""
    compression_ratio: float | None = None
    """How well its text compresses; above about 2.4 it is likely a loop."""
    end: float
    """Where the segment ends, in seconds from the start."""
    no_speech_prob: float | None = None
    """Probability that nobody spoke."""
    seek: int
    """Where the window that holds it begins, in frames."""
    start: float
    """Where the segment begins, in seconds from the start."""
    temperature: float
    """Temperature it was sampled at."""
    text: str
    tokens: list[int]
    """Ids of its tokens."""


class TranscriptionSegment(_Segment):
    """A stretch of the recording and what was said in it."""


class TranslationSegment(_Segment):
    """A stretch of the recording and what it means."""


class TranscriptionResponseVerbose(OpenAIBaseModel):
    """The text with its times."""

    duration: str
    """Length of the recording, in seconds."""
    language: str
    """Language that was spoken."""
    text: str
    segments: list[TranscriptionSegment] | None = None
    words: list[TranscriptionWord] | None = None


class TranslationResponseVerbose(OpenAIBaseModel):
    """The translated text with its times."""

    duration: str
    """Length of the recording, in seconds."""
    language: str
    """Language of the text."""
    text: str
    segments: list[TranslationSegment] | None = None
    words: list[TranslationWord] | None = None


TranscriptionResponseVariant: TypeAlias = TranscriptionResponse | TranscriptionResponseVerbose
TranslationResponseVariant: TypeAlias = TranslationResponse | TranslationResponseVerbose


class _StreamChoice(OpenAIBaseModel):
    delta: DeltaMessage
    finish_reason: str | None = None
    stop_reason: int | str | None = None
    """The stop string or token id that ended the text."""


class TranscriptionResponseStreamChoice(_StreamChoice):
    """The next piece of a transcription."""


class TranslationResponseStreamChoice(_StreamChoice):
    """The next piece of a translation."""


class TranscriptionStreamResponse(OpenAIBaseModel):
    """One event of a streamed transcription."""

    id: str = Field(default_factory=lambda: f"trsc-{random_uuid()}")
    object: Literal["transcription.chunk"] = "transcription.chunk"
    created: int = Field(default_factory=lambda: int(time.time()))
    model: str
    choices: list[TranscriptionResponseStreamChoice]
    usage: UsageInfo | None = None


class TranslationStreamResponse(OpenAIBaseModel):
    """One event of a streamed translation."""

    id: str = Field(default_factory=lambda: f"trsl-{random_uuid()}")
    object: Literal["translation.chunk"] = "translation.chunk"
    created: int = Field(default_factory=lambda: int(time.time()))
    model: str
    choices: list[TranslationResponseStreamChoice]
    usage: UsageInfo | None = None

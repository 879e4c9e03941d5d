"""Speech requests as a form brings them, and answers as they are read."""

import io
from typing import Any

import pytest
from pydantic import ValidationError

from quire_protocol import (
    AudioFile,
    DeltaMessage,
    RequestOutputKind,
    TranscriptionRequest,
    TranscriptionResponse,
    TranscriptionResponseStreamChoice,
    TranscriptionResponseVerbose,
    TranscriptionStreamResponse,
    TranslationRequest,
    TranslationStreamResponse,
)


class Upload:
    """As a web framework hands it over."""

    filename = "speech.wav"

    async def read(self, size: int = -1, /) -> bytes:
        return b"RIFF"


def transcribe(**given: Any) -> TranscriptionRequest:
    return TranscriptionRequest(**{"file": io.BytesIO(b"RIFF"), **given})


@pytest.mark.parametrize("file", [io.BytesIO(b"RIFF"), Upload()])
@pytest.mark.parametrize("request_", [TranscriptionRequest, TranslationRequest])
def test_anything_with_read_is_a_file(file: AudioFile, request_: type) -> None:
    assert request_(file=file).file is file


@pytest.mark.parametrize("request_", [TranscriptionRequest, TranslationRequest])
@pytest.mark.parametrize(("file", "kind"), [("speech.wav", "str"), (b"RIFF", "bytes"), (None, "NoneType"), (7, "int")])
def test_a_file_that_cannot_be_read_is_refused_with_the_way_out(request_: type, file: object, kind: str) -> None:
    with pytest.raises(ValidationError) as refusal:
        request_(file=file)
    (error,) = refusal.value.errors()
    assert error["loc"] == ("file",)
    assert error["msg"].startswith(f"file must be a file (an object with read), got a {kind}; send it as a file part")


def test_a_form_s_texts_become_values() -> None:
    request = transcribe(temperature="0.5", stream="true", seed="7", vllm_xargs='{"a": 1}')
    assert (request.temperature, request.stream, request.seed, request.vllm_xargs) == (0.5, True, 7, {"a": 1})


@pytest.mark.parametrize("text", ["{", "[1]", "7"])
def test_extension_arguments_that_are_no_object_are_refused(text: str) -> None:
    with pytest.raises(ValidationError, match="vllm_xargs must be a"):
        transcribe(vllm_xargs=text)


def test_timestamps_are_asked_for_under_the_form_s_name() -> None:
    request = TranscriptionRequest.model_validate({"file": io.BytesIO(), "timestamp_granularities[]": ["word"]})
    assert request.timestamp_granularities == ["word"]


def test_the_request_comes_before_the_server_and_the_server_before_neutral_values() -> None:
    params = transcribe(top_p=0.5).to_sampling_params(50, {"top_p": 0.9, "top_k": 7})
    assert (params.top_p, params.top_k, params.min_p, params.repetition_penalty) == (0.5, 7, 0.0, 1.0)
    assert (params.temperature, params.max_tokens) == (0.0, 50)


def test_everything_a_transcription_says_about_sampling_arrives() -> None:
    params = transcribe(
        temperature=0.4, seed=7, frequency_penalty=0.1, presence_penalty=0.2, stream=True, vllm_xargs={"a": 1}
    ).to_sampling_params(50)
    assert (params.temperature, params.seed, params.frequency_penalty, params.presence_penalty) == (0.4, 7, 0.1, 0.2)
    assert params.extra_args == {"a": 1}
    assert params.output_kind is RequestOutputKind.DELTA


def test_a_translation_samples_by_its_own_temperature() -> None:
    params = TranslationRequest(file=io.BytesIO(), temperature=0.2, seed=3).to_sampling_params(50, {"temperature": 1.0})
    assert (params.temperature, params.seed, params.max_tokens) == (0.2, 3, 50)
    assert params.output_kind is RequestOutputKind.FINAL_ONLY


def test_answers_are_read_in_both_shapes() -> None:
    assert TranscriptionResponse(text="Hi", usage={"seconds": 3}).usage.type == "duration"
    verbose = TranscriptionResponseVerbose(
        duration="1.5", language="en", text="Hi", words=[{"start": 0, "end": 1.5, "word": "Hi"}]
    )
    assert verbose.words is not None
    assert verbose.words[0].end == 1.5


def test_streamed_answers_are_chunks_with_deltas() -> None:
    choice = TranscriptionResponseStreamChoice(delta=DeltaMessage(content="Hi"))
    chunk = TranscriptionStreamResponse(model="m", choices=[choice])
    assert chunk.object == "transcription.chunk"
    assert TranslationStreamResponse(model="m", choices=[]).object == "translation.chunk"

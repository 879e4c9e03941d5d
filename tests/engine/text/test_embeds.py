"""Embeddings come in three forms, and what is wrong with any of them is said in a sentence."""

from __future__ import annotations

import base64
import io
import json
import pickle
import struct
import zipfile
from collections.abc import Callable

import numpy as np
import pytest
import torch
from safetensors.torch import save as to_safetensors
from tests.engine.text.test_template import decisions, refusal
from tests.support.tokenizer_kinds import tokenizer_of

from quire_engine.errors import PromptTooLong, RequestError
from quire_engine.sequence import rendered
from quire_engine.text.embeds import read_rows
from quire_engine.text.template import Renderer
from quire_protocol import CompletionRequest

WIDTH = 4
VALUES = torch.tensor([[0.5, -1.0, 2.0, 0.25], [1.5, 3.0, -0.125, 8.0], [0.0, 1.0, 0.0, -4.0]])
DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}

OTHER_NAMES = {"F64": "float64", "I64": "int64", "DoubleStorage": "float64", "LongStorage": "int64"}
"""What the forms call types that are not served."""


def torch_saved(tensor: object, **options: object) -> bytes:
    file = io.BytesIO()
    torch.save(tensor, file, **options)
    return file.getvalue()


def plain(tensor: torch.Tensor) -> bytes:
    shape = ",".join(map(str, tensor.shape))
    dtype = str(tensor.dtype).removeprefix("torch.")
    return f"dtype={dtype};shape={shape};".encode() + tensor.contiguous().view(torch.uint8).numpy().tobytes()


FORMS: dict[str, Callable[[torch.Tensor], bytes]] = {
    "safetensors": lambda tensor: to_safetensors({"any name": tensor}),
    "plain": plain,
    "torch.save": torch_saved,
}


def read(data: bytes, dtype: str = "float32") -> np.ndarray:
    return read_rows(base64.b64encode(data), width=WIDTH, dtype=dtype, field="prompt_embeds")


def problem(data: bytes, dtype: str = "float32") -> str:
    with pytest.raises(RequestError) as error:
        read(data, dtype)
    assert error.value.param == "prompt_embeds"
    assert str(error.value).startswith("prompt_embeds ")
    assert len(str(error.value)) < 400
    return str(error.value)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("form", FORMS)
def test_every_form_and_type_gives_the_same_rows(form: str, dtype: str) -> None:
    rows = read(FORMS[form](VALUES.to(DTYPES[dtype])))
    assert rows.dtype == np.float32
    assert rows.tolist() == VALUES.tolist()


@pytest.mark.parametrize("form", FORMS)
def test_a_batch_of_one_is_that_one(form: str) -> None:
    assert read(FORMS[form](VALUES[None])).tolist() == VALUES.tolist()


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(
    ("tensor", "words"),
    [
        (VALUES[:, :3], "[tokens, 4]"),
        (VALUES[0], "[tokens, 4]"),
        (VALUES[:0], "at least one token"),
        (VALUES.reshape(3, 1, 4), "[tokens, 4]"),
        (VALUES.double(), "float64"),
        (VALUES.long(), "int64"),
        (VALUES * float("nan"), "NaN"),
        (VALUES / 0, "infinity"),
    ],
    ids=["narrow", "one axis", "no rows", "three axes", "float64", "int64", "nan", "infinity"],
)
def test_what_is_no_embedding_is_refused(form: str, tensor: torch.Tensor, words: str) -> None:
    told = problem(FORMS[form](tensor.contiguous()))
    for other, name in OTHER_NAMES.items():
        told = told.replace(other, name)
    assert words in told


def test_numbers_beyond_the_models_type_are_refused() -> None:
    assert "float16" in problem(plain(VALUES * 1e5), dtype="float16")
    assert read(plain(VALUES * 1e5), dtype="bfloat16").shape == (3, 4)


@pytest.mark.parametrize("encoded", [b"AAA", b"A*==", b"\xff", "größe".encode()])
def test_what_is_not_base64_is_refused(encoded: bytes) -> None:
    with pytest.raises(RequestError, match="not base64"):
        read_rows(encoded, width=WIDTH, dtype="float32", field="prompt_embeds")


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "neither"),
        (b"\x00\x00\x00", "neither"),
        (b"dtype=float32;shape=3,4;" + b"\x00" * 47, "48 bytes"),
        (b"dtype=float32;shape=999999999,4;", "came"),
        (b"dtype=float32;shape=9999999999,4;", "neither"),
        (b"dtype=complex64;shape=3,4;", "complex64"),
        (struct.pack("<Q", 2**40) + b"{}", "safetensors header"),
        (to_safetensors({"a": VALUES, "b": VALUES.clone()}), "holds 2"),
        (to_safetensors({}), "holds 0"),
        (to_safetensors({"a": VALUES})[:-1], "safetensors header"),
    ],
)
def test_what_has_no_form_or_a_broken_one_is_refused(data: bytes, words: str) -> None:
    assert words in problem(data)


class Attack:
    """Unpickling one of these would end the test."""

    def __reduce__(self) -> tuple[object, ...]:
        return (exec, ("raise SystemExit('code of a request ran')",))


def archive(program: bytes, contents: bytes = b"\0" * 48, compression: int = zipfile.ZIP_STORED) -> bytes:
    """What torch.save would write for this pickle."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", compression) as records:
        for name, data in (("data.pkl", program), ("byteorder", b"little"), ("version", b"3\n"), ("data/0", contents)):
            records.writestr(f"archive/{name}", data)
    return file.getvalue()


def tensor_program(shape: tuple[int, ...], strides: tuple[int, ...], offset: int = 0, numbers: int = 12) -> bytes:
    """The pickle of a float32 tensor that claims these."""

    class Claims(pickle.Pickler):
        def persistent_id(self, value: object) -> object:
            return ("storage", torch.FloatStorage, "0", "cpu", numbers) if value == "here" else None

    class Tensor:
        def __reduce__(self) -> tuple[object, ...]:
            return torch._utils._rebuild_tensor_v2, ("here", offset, shape, strides, False, {})

    file = io.BytesIO()
    Claims(file, protocol=2).dump(Tensor())
    return file.getvalue()


def test_a_handmade_archive_is_read_like_torchs_own() -> None:
    assert read(archive(tensor_program((3, 4), (4, 1)), VALUES.numpy().tobytes())).tolist() == VALUES.tolist()


@pytest.mark.parametrize(
    "data",
    [
        torch_saved(Attack()),
        torch_saved(Attack(), pickle_protocol=4),
        torch_saved([VALUES]),
        torch_saved({"a": VALUES, "b": VALUES.clone()}),
        torch_saved(torch.nn.Parameter(VALUES)),
        torch_saved(VALUES.to_sparse()),
        torch_saved(VALUES, _use_new_zipfile_serialization=False),
        torch_saved(VALUES.expand(2, 3, 4)[0].t()),
        torch_saved(VALUES[:1].expand(10**6, 4)),
        torch_saved(VALUES)[:-30],
        torch_saved(VALUES)[:60],
        b"PK\x03\x04" + b"PK\x01\x02" * 10**6,
        archive(b"\x80\x02cos\nsystem\n(S'true'\ntR."),
        archive(b"\x80\x02cbuiltins\nbytearray\n\x8a\x05\x00\xe4\x0b\x54\x02\x85R."),
        archive(b"\x80\x04\x8c\x02os\x8c\x06system\x93."),
        archive(b"not a pickle"),
        archive(b"(" * 5000),
        archive(pickle.dumps(None)),
        archive(tensor_program((3, 4), (4, 1)), compression=zipfile.ZIP_DEFLATED),
        archive(tensor_program((10**6, 4), (0, 0))),
        archive(tensor_program((3, 4), (2**40, 1))),
        archive(tensor_program((3, 4), (4, 1), offset=10**9)),
        archive(tensor_program((10**9, 4), (4, 1), numbers=4 * 10**9)),
        archive(tensor_program((3, 4), (4, 1), numbers=10**12)),
        archive(tensor_program((3, 4), (4, 1), numbers=-1)),
        archive(tensor_program((-3, 4), (4, 1))),
        archive(tensor_program((3, 4), (-4, 1))),
        archive(tensor_program((3, 4), (1, 3))),
    ],
    ids=range(28),
)
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_no_code_runs_and_nothing_but_a_plain_tensor_is_read(data: bytes) -> None:
    assert "embeddings" in problem(data)


def test_a_safetensors_header_cannot_point_outside() -> None:
    header = json.dumps({"a": {"dtype": "F32", "shape": [3, 4], "data_offsets": [0, 480]}}).encode()
    assert "safetensors header" in problem(struct.pack("<Q", len(header)) + header + b"\0" * 48)


# --- in a request -----------------------------------------------------------------------------------------------------


def encoded(tensor: torch.Tensor) -> str:
    return base64.b64encode(plain(tensor)).decode()


@pytest.fixture(scope="module")
def renderer() -> Renderer:
    return Renderer(tokenizer_of("byte-level"), decisions().model_copy(update={"embeds_width": WIDTH}))


def test_embeddings_come_before_texts(renderer: Renderer) -> None:
    request = CompletionRequest(prompt="a", prompt_embeds=[encoded(VALUES), encoded(VALUES[:1])])
    first, second, third = renderer.render_completion(request)
    assert [len(each.token_ids) for each in (first, second)] == [3, 1]
    assert np.frombuffer(rendered(first).embeds, "<f4").reshape(3, 4).tolist() == VALUES.tolist()
    assert not rendered(third).embeds
    assert len({each.request_id for each in (first, second, third)}) == 3
    assert "embeds" not in first.model_dump()


def test_embeddings_alone_need_no_prompt(renderer: Renderer) -> None:
    [only] = renderer.render_completion(CompletionRequest(prompt_embeds=encoded(VALUES), max_tokens=5))
    assert (len(only.token_ids), only.sampling_params.max_tokens) == (3, 5)


def test_truncation_keeps_the_last_rows(renderer: Renderer) -> None:
    [kept] = renderer.render_completion(CompletionRequest(prompt_embeds=encoded(VALUES), truncate_prompt_tokens=2))
    assert np.frombuffer(rendered(kept).embeds, "<f4").tolist() == VALUES[1:].flatten().tolist()


def test_too_many_rows_are_too_long(renderer: Renderer) -> None:
    error = refusal(renderer.render_completion, CompletionRequest(prompt_embeds=encoded(torch.ones(64, WIDTH))))
    assert isinstance(error, PromptTooLong)
    assert error.param == "prompt_embeds"


def test_a_wrong_one_of_several_is_named(renderer: Renderer) -> None:
    request = CompletionRequest(prompt_embeds=[encoded(VALUES), "AAAA"])
    assert refusal(renderer.render_completion, request).param == "prompt_embeds.1"


@pytest.mark.parametrize("fields", [{"echo": True}, {"prompt_logprobs": 0}, {"suffix": "x"}], ids=str)
def test_what_needs_tokens_is_refused(renderer: Renderer, fields: dict[str, object]) -> None:
    request = CompletionRequest(prompt="a", prompt_embeds=encoded(VALUES), **fields)
    assert refusal(renderer.render_completion, request).param == next(iter(fields))


def test_a_server_takes_none_unless_told_to() -> None:
    renderer = Renderer(tokenizer_of("byte-level"), decisions())
    error = refusal(renderer.render_completion, CompletionRequest(prompt_embeds=encoded(VALUES)))
    assert error.param == "prompt_embeds"
    assert "--enable-prompt-embeds" in str(error)

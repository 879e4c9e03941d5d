"""llama.cpp: its batched decoding through llama-cpp-python, from a gguf file that is made here."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from line import Answer, Asked, answer, clock

ROOM = 2048
"""Tokens that one call may take."""
HEADER = 8
"""Bytes in which a safetensors file says how long its description is."""


def load(model: str, options: Asked) -> Answer:
    """The model, and a context for each shape of batch, made when it is first asked for."""
    import llama_cpp as llama

    llama.llama_backend_init()
    gguf_file = converted(model, options)
    weights = llama.llama_model_load_from_file(str(gguf_file).encode(), llama.llama_model_default_params())
    batch = llama.llama_batch_init(ROOM, 0, 1)

    def context(sequences: int, longest: int) -> Any:
        params = llama.llama_context_default_params()
        params.n_ctx = sequences * -(-longest // 256) * 256
        params.n_batch, params.n_seq_max, params.no_perf = ROOM, sequences, True
        params.n_threads = params.n_threads_batch = options["threads"]
        return llama.llama_init_from_model(weights, params)

    def decode(live: Any, tokens: list[tuple[int, int, int, bool]]) -> None:
        """Compute (token, position, sequence, whether its logits are wanted)."""
        for start in range(0, len(tokens), ROOM):
            some = tokens[start : start + ROOM]
            batch.n_tokens = len(some)
            for row, (token, position, sequence, wanted) in enumerate(some):
                batch.token[row], batch.pos[row], batch.logits[row] = token, position, wanted
                batch.n_seq_id[row], batch.seq_id[row][0] = 1, sequence
            if llama.llama_decode(live, batch):
                raise RuntimeError(f"llama.cpp could not compute {len(some)} tokens")

    vocabulary = llama.llama_vocab_n_tokens(llama.llama_model_get_vocab(weights))

    def best(live: Any, rows: int) -> list[int]:
        """The likeliest tokens of the last rows of the last call."""
        logits = (llama.llama_get_logits_ith(live, row - rows) for row in range(rows))
        return [int(np.ctypeslib.as_array(each, shape=(vocabulary,)).argmax()) for each in logits]

    def run(asked: Asked) -> Asked:
        prompts, output = asked["prompts"], asked["output"]
        live = context(len(prompts), len(prompts[0]) + output)
        try:
            began = clock()
            decode(live, list(_all(prompts)))
            started = clock()
            now = best(live, 1) * len(prompts)  # prompts of several calls leave only the last call's logits
            for position in range(len(prompts[0]), len(prompts[0]) + output - 1):
                decode(live, [(token, position, row, True) for row, token in enumerate(now)])
                now = best(live, len(prompts))
            ended = clock()
        finally:
            llama.llama_free(live)
        return {"first": started - began, "seconds": ended - started, "tokens": len(prompts) * (output - 1)}

    return run


def _all(prompts: list[list[int]]) -> Iterator[tuple[int, int, int, bool]]:
    for row, ids in enumerate(prompts):
        for position, token in enumerate(ids):
            yield token, position, row, position == len(ids) - 1


def converted(model: str, options: Asked) -> Path:
    """A gguf file of a Qwen3 checkpoint, without vocabulary; made once."""
    import gguf

    folder = Path(model)
    kind = {8: gguf.GGMLQuantizationType.Q8_0, 4: gguf.GGMLQuantizationType.Q4_0}[options["bits"]]
    path = Path(options["cache"]) / "gguf" / f"{folder.name}-{kind.name.lower()}.gguf"
    if path.exists():
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    config = json.loads((folder / "config.json").read_text())
    writer = gguf.GGUFWriter(path.with_suffix(".part"), "qwen3")
    _describe(writer, config)
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.QWEN3, config["num_hidden_layers"])
    for name, value in tensors(folder / "model.safetensors"):
        kept = gguf.GGMLQuantizationType.F32 if value.ndim == 1 else kind
        data = gguf.quants.quantize(value, kept)
        writer.add_tensor(names.get_name(name, try_suffixes=(".weight",)), data, raw_dtype=kept)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path.with_suffix(".part").rename(path)


def _describe(writer: Any, config: dict[str, Any]) -> None:
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(config["num_attention_heads"])
    writer.add_head_count_kv(config["num_key_value_heads"])
    writer.add_key_length(config["head_dim"])
    writer.add_value_length(config["head_dim"])
    writer.add_rope_freq_base(config["rope_parameters"]["rope_theta"])
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_vocab_size(config["vocab_size"])
    writer.add_tokenizer_model("no_vocab")


def tensors(path: Path) -> Iterator[tuple[str, np.ndarray]]:
    """The bfloat16 tensors of a safetensors file, in float32."""
    raw = np.memmap(path, dtype=np.uint8, mode="r")
    length = int(raw[:HEADER].view(np.uint64)[0])
    described = json.loads(raw[HEADER : HEADER + length].tobytes())
    described.pop("__metadata__", None)
    for name, each in described.items():
        start, end = (HEADER + length + offset for offset in each["data_offsets"])
        halves = raw[start:end].view(np.uint16).astype(np.uint32)
        yield name, (halves << 16).view(np.float32).reshape(each["shape"])


if __name__ == "__main__":
    answer(load, converted)

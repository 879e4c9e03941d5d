"""Logits processors of a package that only the server's process has on its path."""

from pathlib import Path

import httpx
from tests.support.processes import quire_serve
from tests.support.shop import write_shop


def test_a_real_server_runs_them_in_the_process_of_its_engine(tmp_path: Path) -> None:
    flags = ("--logits-processors", "shop.steer", "--logits-processor-pattern", "shop[.]Force")
    body = {"prompt": [10, 20], "temperature": 0, "max_tokens": 3, "return_token_ids": True}
    with quire_serve(*flags, "--dtype", "float32", PYTHONPATH=str(write_shop(tmp_path))) as server:
        for asked in (
            {"logits_processors": [{"qualname": "shop.Force", "args": [7]}]},
            {"vllm_xargs": {"forced": 7}},
        ):
            answer = httpx.post(f"{server.api}/completions", json={**body, **asked}, timeout=60).json()
            assert answer["choices"][0]["token_ids"] == [7] * 3
        refused = httpx.post(
            f"{server.api}/completions", json={**body, "logits_processors": ["shop.Count"]}, timeout=60
        )
        assert (refused.status_code, refused.json()["error"]["param"]) == (400, "logits_processors")

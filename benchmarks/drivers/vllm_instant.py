"""vLLM with an executor that computes nothing: its scheduler, its processes and its API server are its own.

For `--distributed-executor-backend vllm_instant.Instant`, with this folder on the path; a step takes as many seconds as
the environment says at least.
"""

from __future__ import annotations

import os
import time
from concurrent.futures import Future
from typing import Any

from vllm.v1.executor.uniproc_executor import UniProcExecutor
from vllm.v1.outputs import ModelRunnerOutput

PACE = "QUIRE_INSTANT_SECONDS"
TOKENS = range(100, 200)


class Instant(UniProcExecutor):
    """Gives every request whose prompt is scheduled to its end a token, one step in so many seconds."""

    def _init_executor(self) -> None:
        super()._init_executor()
        self.seconds = float(os.environ[PACE])
        self.next = 0.0
        self.steps = 0
        self.lengths: dict[str, int] = {}

    def execute_model(self, scheduler_output: Any, non_block: bool = False) -> Any:
        now = time.monotonic()
        self.next = max(now, self.next + self.seconds)
        time.sleep(self.next - now)
        self.steps += 1
        given = self._given(scheduler_output)
        if not non_block:
            return given
        done: Future[Any] = Future()
        done.set_result(given)
        return done

    def _given(self, scheduled: Any) -> ModelRunnerOutput:
        computed = {each.req_id: each.num_computed_tokens for each in scheduled.scheduled_new_reqs}
        self.lengths |= {each.req_id: len(each.prompt_token_ids) for each in scheduled.scheduled_new_reqs}
        known = scheduled.scheduled_cached_reqs
        computed |= dict(zip(known.req_ids, known.num_computed_tokens, strict=True))
        for ended in scheduled.finished_req_ids:
            self.lengths.pop(ended, None)
        token = TOKENS[self.steps % len(TOKENS)]
        names = list(scheduled.num_scheduled_tokens)
        tokens = [
            [token] if computed[name] + scheduled.num_scheduled_tokens[name] >= self.lengths[name] else []
            for name in names
        ]
        return ModelRunnerOutput(names, {name: place for place, name in enumerate(names)}, tokens)

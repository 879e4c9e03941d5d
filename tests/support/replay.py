"""Graphs without a device: a capture keeps the work itself, and a replay does it again into the first answer."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from quire_engine.runner.graphs import CaptureRefused, Work


@dataclass
class PlainCapture:
    """Counts what is captured and replayed; may be told to refuse, or to forget inputs as a bad capture would."""

    refuses: str | None = None
    is_stale: bool = False
    """Replays the answer of the capture, whatever the inputs are."""
    captured: int = 0
    replayed: int = 0
    answers: list[Tensor] = field(default_factory=list)

    def __call__(self, work: Work) -> Work:
        if self.refuses is not None:
            raise CaptureRefused(self.refuses)
        self.captured += 1
        answer = work().clone()
        self.answers.append(answer)

        def replay() -> Tensor:
            self.replayed += 1
            if not self.is_stale:
                with torch.inference_mode():
                    answer.copy_(work())
            return answer

        return replay

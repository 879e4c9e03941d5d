"""Train the demo model and write its checkpoint folder; called again, it goes on where it stopped.

usage: python -m tools.demo_model.train [--minutes M | --steps N] [--until SHARE] [--folder FOLDER] [--device cuda]

FOLDER (build/demo-model) gets tokenizer/, state.pt, log.jsonl and at the end checkpoint/. The rate of learning falls to
nothing at the end of the budget, so name all of it at the first call, and --until 0.5 to do half of it now.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from tools.demo_model.export import export
from tools.demo_model.log import Log
from tools.demo_model.packing import Batch, step_batches
from tools.demo_model.shape import SHAPE, Shape, fresh
from tools.demo_model.trainer import Trainer
from tqdm import tqdm
from transformers import PreTrainedTokenizerFast

from tools.demo_model import probe, schedule, tokenizer

FOLDER = Path("build/demo-model")
SAVE_EVERY = 240.0
"""Seconds of training between two saved states."""
PROBE_EVERY = 600.0
"""Seconds of training between two looks at the held-out set."""


@dataclass(frozen=True, slots=True)
class Budget:
    """How long to train: so many seconds, or so many steps if that is given."""

    seconds: float
    steps: int | None = None

    def progress(self, trainer: Trainer) -> float:
        """The share of it that is spent."""
        return trainer.step / self.steps if self.steps is not None else trainer.seconds / self.seconds


@dataclass(frozen=True, slots=True)
class Run:
    """One training, with the files that it keeps."""

    folder: Path
    budget: Budget
    seed: int = 0
    shape: Shape = SHAPE
    dtype: torch.dtype = torch.bfloat16
    device: str = "cpu"
    threads: int = 1
    """Threads that compute batches at once, on a CPU."""
    stages: tuple[schedule.Stage, ...] = schedule.STAGES
    samples: int = tokenizer.SAMPLES
    """Samples that the tokenizer is made of."""
    questions: int = probe.EACH
    """Held-out questions of each task that the model is looked at with."""

    @property
    def state(self) -> Path:
        """What is needed to go on."""
        return self.folder / "state.pt"

    @property
    def log(self) -> Log:
        """What happened."""
        return Log(self.folder / "log.jsonl")

    def train(self, until: float = 1.0) -> Path:
        """Train until this share of the budget is spent; the checkpoint folder, with what is known by then."""
        self.folder.mkdir(parents=True, exist_ok=True)
        words = self._tokenizer()
        model = fresh(self.shape, words, self.seed)
        trainer = Trainer(model, dtype=self.dtype, device=self.device, threads=self.threads)
        if self.state.is_file():
            trainer.load(self.state)
            self.log.cut(trainer.step)
        else:
            self.log.write(step=0, kind="settings", **self._settings(trainer))
        self._learn(trainer, words, until)
        checkpoint = self.folder / "checkpoint"
        size = export(trainer.model, words, checkpoint)
        self.log.write(step=trainer.step, kind="end", seconds=round(trainer.seconds, 1), bytes=size)
        return checkpoint

    def _settings(self, trainer: Trainer) -> dict[str, object]:
        return {
            "shape": asdict(self.shape),
            "parameters": trainer.model.num_parameters(),
            "minutes": None if self.budget.steps is not None else self.budget.seconds / 60,
            "steps": self.budget.steps,
            "seed": self.seed,
            "dtype": str(self.dtype).removeprefix("torch."),
            "device": self.device,
            "threads": self.threads,
            "torch": torch.__version__,
        }

    def _tokenizer(self) -> PreTrainedTokenizerFast:
        """The run's tokenizer: made once, since the same pairs must be there when it goes on."""
        home = self.folder / "tokenizer"
        if not home.is_dir():
            tokenizer.make(self.samples, seed=self.seed).save_pretrained(home)
        return PreTrainedTokenizerFast.from_pretrained(home)

    def _learn(self, trainer: Trainer, words: PreTrainedTokenizerFast, until: float) -> None:
        asked = probe.questions(words.backend_tokenizer, words.pad_token_id, self.questions)
        before, began = trainer.seconds, time.perf_counter()
        saved = probed = trainer.seconds
        with tqdm(total=100, unit="%", bar_format="{l_bar}{bar}| {elapsed}<{remaining} {postfix}") as bar:
            while (progress := self.budget.progress(trainer)) < until:
                done = self._step(trainer, words, progress)
                trainer.seconds = before + time.perf_counter() - began
                self.log.write(step=trainer.step, kind="step", seconds=round(trainer.seconds, 2), **done)
                bar.update(100 * min(self.budget.progress(trainer), 1) - bar.n)
                bar.set_postfix_str(f"step {trainer.step}, loss {done['loss']:.3f}")
                if trainer.seconds - saved >= SAVE_EVERY:
                    trainer.save(self.state)
                    saved = trainer.seconds
                if trainer.seconds - probed >= PROBE_EVERY:
                    self._probe(trainer, asked)
                    probed = trainer.seconds
        trainer.save(self.state)
        self._probe(trainer, asked)

    def _step(self, trainer: Trainer, words: PreTrainedTokenizerFast, progress: float) -> dict[str, float]:
        """One step; what the log says of it."""
        now, share = schedule.stage(progress, self.stages), schedule.rate(progress)
        batches = step_batches(words.backend_tokenizer, self.seed, trainer.step, now, words.pad_token_id)
        return {
            "progress": round(progress, 5),
            "rate": round(share, 4),
            "tokens": sum(each.tokens for each in batches),
            "spoken": sum(each.spoken for each in batches),
            "loss": trainer.learn(batches, share),
        }

    def _probe(self, trainer: Trainer, asked: list[Batch]) -> None:
        self.log.write(step=trainer.step, kind="probe", exact=probe.shares(trainer, asked))


def main() -> None:
    """Train as the command line says."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=120.0, help="time to train in all, over all calls")
    parser.add_argument("--steps", type=int, help="steps to train in all, whatever time they take")
    parser.add_argument("--until", type=float, default=1.0, metavar="SHARE", help="stop once so much of it is spent")
    parser.add_argument("--folder", type=Path, default=FOLDER, help="where the run keeps its files")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--float32", action="store_true", help="no bfloat16, for processors without it")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="threads of the processor")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    if options.minutes <= 0 or (options.steps is not None and options.steps < 1):
        parser.error("there is no time to train in: give --minutes above 0, or --steps of at least 1")
    torch.set_num_threads(options.threads)
    run = Run(
        options.folder,
        Budget(options.minutes * 60, options.steps),
        seed=options.seed,
        dtype=torch.float32 if options.float32 else torch.bfloat16,
        device=options.device,
        threads=options.threads if options.device == "cpu" else 1,
    )
    print(f"wrote {run.train(options.until)}")


if __name__ == "__main__":
    main()

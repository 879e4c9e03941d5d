"""The proof: a replacement is installed where it computes what the module does, and nowhere else. It knows no pass.

One pass of a small batch through the model records what every module that may be replaced was called with. Then, on
these inputs at several volumes, a module and its replacements are run side by side and compared: outputs, and the
attention calls made on the way, with their queries, keys and values. Attention itself is not computed in the probe:
its place takes a linear function, under which loud inputs stay comparable. Positions are spread over the whole context,
so that what a model does at far positions only is seen too.

Layers of one kind share code: of modules with the same class, settings and shapes, one is run and the others follow.
At the end the whole model must still give its logits, or everything is put back.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Hashable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from quire_engine.attention import Layout
from quire_engine.config import Fused
from quire_engine.kv.cache import KVCache, LayerShape
from quire_engine.model import proof
from quire_engine.model.forward import ModelForward
from quire_engine.model.fusion.passes import AttentionCall, FusionPass, Visit
from quire_engine.model.proof import logits_distance
from quire_engine.model.seam import Pass

TOLERANCE = {torch.float32: 1e-5, torch.float16: 4e-3, torch.bfloat16: 3e-2}
"""Largest distance of two results, relative to their length: sums in another order, and values rounded once less."""
ROWS = 12
BLOCK = 16


@dataclass(slots=True)
class Recorder:
    """An attention backend that notes its calls, and answers with each query's own value."""

    name: ClassVar[str] = "recorder"
    layers: dict[int, int]
    """By the place of a layer's keys in memory: its number."""
    slots: Tensor
    calls: list[AttentionCall] = field(default_factory=list)

    @classmethod
    def plan(cls, layout: Layout) -> Self:
        """Made for a cache instead: see `Probe`."""
        raise TypeError("a recorder is made for a cache, not planned for a layout")

    def attend(
        self,
        q: Tensor,
        keys: Tensor,
        values: Tensor,
        *,
        scale: float,
        window: int,
        softcap: float,
        sinks: Tensor | None,
    ) -> Tensor:
        """Note the call, with the keys and values that were stored for it."""
        k, v = (cache.flatten(0, 1)[self.slots] for cache in (keys, values))
        layer = self.layers[keys.data_ptr()]
        self.calls.append(AttentionCall(layer, scale, window, softcap, sinks, q.clone(), k, v))
        return v.repeat_interleave(q.shape[1] // v.shape[1], dim=1)


class Probe:
    """A small batch and a cache for it: runs the model, or one of its modules as the model called it."""

    def __init__(self, model: PreTrainedModel, layers: tuple[LayerShape, ...], context: int) -> None:
        device, vocab_size = model.device, model.config.get_text_config().vocab_size
        generator = torch.Generator().manual_seed(0)
        self._model = model
        self._ids = torch.randint(vocab_size, (ROWS,), generator=generator).to(device)
        self._positions = torch.linspace(0, context - 1, ROWS).long().to(device)
        self._cache = KVCache.allocate(layers, 1, BLOCK, model.dtype, device)
        numbers = {keys.data_ptr(): layer for layer, keys in enumerate(self._cache.keys)}
        self._recorder = Recorder(numbers, torch.arange(ROWS, device=device))

    def logits(self) -> Tensor:
        """[T, V] of the whole model, attention recorded."""
        quire = Pass(self._cache, self._recorder.slots, self._recorder)
        return ModelForward(self._model).logits(self._ids, self._positions, torch.arange(ROWS), quire).float()

    def visits(self, names: Collection[str]) -> dict[str, Visit]:
        """How each of these modules is called in one pass; the logits are not needed."""
        visits: dict[str, Visit] = {}
        with _watching(self._model, names, self._recorder.calls, visits):
            self.logits()
        return visits

    def run(self, module: nn.Module, visit: Visit, volume: float) -> tuple[Any, list[AttentionCall]]:
        """What a module gives for a visit's inputs at some volume, and the attention calls that it makes."""
        args, keywords = _amplified(visit, volume)
        if "quire" in keywords:
            keywords["quire"] = Pass(self._cache, self._recorder.slots, self._recorder)
        before = len(self._recorder.calls)
        return module(*args, **keywords), self._recorder.calls[before:]


@contextmanager
def _watching(
    model: nn.Module, names: Collection[str], calls: list[AttentionCall], visits: dict[str, Visit]
) -> Iterator[None]:
    """Note the inputs of modules, and the attention calls made between their beginning and their end."""
    began: dict[str, int] = {}

    def before(name: str) -> Callable[..., None]:
        def note(*_: Any) -> None:
            began[name] = len(calls)

        return note

    def after(name: str) -> Callable[..., None]:
        def note(_: nn.Module, args: tuple[Any, ...], keywords: dict[str, Any], __: Any) -> None:
            visits[name] = Visit(args, keywords, tuple(calls[began[name] :]))

        return note

    hooks = []
    for name in names:
        module = model.get_submodule(name)
        hooks.append(module.register_forward_pre_hook(before(name)))
        hooks.append(module.register_forward_hook(after(name), with_kwargs=True))
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


@torch.no_grad()  # not inference_mode(): weights joined here are to be ordinary tensors
def fuse(
    model: PreTrainedModel, passes: tuple[FusionPass, ...], layers: tuple[LayerShape, ...], *, context: int
) -> tuple[Fused, ...]:
    """Replace what is proven, in place; for each pass, what was found, fused and left. The model must be on the seam.

    `layers` is what the model caches, `context` the longest context that will be served.
    """
    found = {each.name: [name for name, module in model.named_modules() if each.matches(module)] for each in passes}
    if not any(found.values()):
        return ()
    probe = Probe(model, layers, context)
    wanted = probe.logits()
    visits = probe.visits({name for names in found.values() for name in names})
    originals: dict[str, nn.Module] = {}
    report = []
    for each in passes:
        if found[each.name]:
            seen = {name: visits[name] for name in found[each.name] if name in visits}
            report.append(_apply(each, model, probe, seen, originals, len(found[each.name])))
    difference = logits_distance(probe.logits(), wanted, model.dtype)
    if difference <= proof.TOLERANCE[model.dtype]:
        return tuple(report)
    for name, module in reversed(originals.items()):
        model.set_submodule(name, module)
    reason = f"the whole model's logits were off by {difference:.2g} with all of them, so none was kept"
    return tuple(Fused(what=line.what, found=line.found, fused=0, reasons=(reason,)) for line in report)


def _apply(
    each: FusionPass,
    model: nn.Module,
    probe: Probe,
    visits: dict[str, Visit],
    originals: dict[str, nn.Module],
    found: int,
) -> Fused:
    """Run one pass over the modules that it found; what was replaced goes into `originals`."""
    verdicts: dict[Hashable, Verdict] = {}
    reasons: dict[str, str] = {}  # in order, each once: two that differ in a distance are one
    fused = 0
    for name, visit in visits.items():
        module = model.get_submodule(name)
        kind = _kind(module, visit)
        if kind not in verdicts:
            verdicts[kind] = _judge(each, probe, module, visit)
        verdict = verdicts[kind]
        if verdict.candidate is None:
            reason = f"{type(module).__name__} {verdict.reason}"
            reasons.setdefault(reason.partition(" (")[0], reason)
            continue
        originals[name] = module
        model.set_submodule(name, next(islice(each.candidates(module, visit), verdict.candidate, None)))
        fused += 1
    if found > len(visits):
        reasons["unseen"] = f"{found - len(visits)} are not called when the model computes"
    return Fused(what=each.name, found=found, fused=fused, reasons=tuple(reasons.values()))


@dataclass(frozen=True, slots=True)
class Verdict:
    """Which of a module's candidates may take its place, or why none may."""

    candidate: int | None
    reason: str = ""


def _judge(each: FusionPass, probe: Probe, module: nn.Module, visit: Visit) -> Verdict:
    """Run all candidates beside the module, until one computes the same."""
    reasons = []
    try:
        for number, candidate in enumerate(each.candidates(module, visit)):
            reasons.append(_difference(each, probe, module, candidate, visit))
            if not reasons[-1]:
                return Verdict(number)
    except Exception as error:  # a model's own code, called in a way it was not made for, may fail in any way
        reasons.append(_failure(error))
    return Verdict(None, reasons[0] if reasons else "is built otherwise")  # the first candidate was the likeliest


def _difference(each: FusionPass, probe: Probe, module: nn.Module, candidate: nn.Module, visit: Visit) -> str:
    """What the candidate does otherwise; nothing, if nothing."""
    for volume in each.volumes:
        wanted, wanted_calls = probe.run(module, visit, volume)
        try:
            got, calls = probe.run(candidate, visit, volume)
        except Exception as error:
            return _failure(error)
        if [call.options for call in calls] != [call.options for call in wanted_calls]:
            return "calls attention otherwise"
        pairs = [
            (name, getattr(own, name), getattr(other, name))
            for own, other in zip(calls, wanted_calls, strict=True)
            for name in ("q", "k", "v")
        ]
        for what, one, other in (*pairs, ("output", got, wanted)):
            distance = _distance(one, other)
            if not distance <= TOLERANCE[_dtype(visit)]:
                return f"computes another {what} (relative distance {distance:.2g})"
    return ""


def _failure(error: Exception) -> str:
    return f"cannot be replaced: {' '.join(str(error).split())[:120] or type(error).__name__}"


def _distance(one: Any, other: Any) -> float:
    """||one - other|| / ||other||; of tuples, of their tensors; infinite where they are not alike."""
    if isinstance(one, tuple) and isinstance(other, tuple) and len(one) == len(other):
        return max((_distance(a, b) for a, b in zip(one, other, strict=True)), default=0.0)
    if one is None and other is None:
        return 0.0
    if not isinstance(one, Tensor) or not isinstance(other, Tensor):
        return float("inf")
    if one.shape != other.shape or one.dtype != other.dtype:
        return float("inf")
    return float((one.float() - other.float()).norm() / other.float().norm().clamp(min=1e-30))


def _amplified(visit: Visit, volume: float) -> tuple[list[Any], dict[str, Any]]:
    """A visit's inputs with the hidden states, its first input, times `volume`: copies, which may be overwritten."""
    args, keywords = list(visit.args), dict(visit.keywords)
    if args:
        args[0] = args[0] * volume
    else:
        keywords["hidden_states"] = keywords["hidden_states"] * volume
    return args, keywords


def _dtype(visit: Visit) -> torch.dtype:
    states: Tensor = visit.args[0] if visit.args else visit.keywords["hidden_states"]
    return states.dtype


def _kind(module: nn.Module, visit: Visit) -> Hashable:
    """Equal for modules that run the same code on the same shapes with the same settings."""
    calls = tuple((call.scale, call.window, call.softcap, call.sinks is None) for call in visit.calls)
    return calls, _code(module)


def _code(module: nn.Module) -> Hashable:
    settings = tuple(
        (name, value if isinstance(value, (bool, int, float, str, tuple, type(None))) else id(value))
        for name, value in sorted(vars(module).items())
        if not name.startswith("_") and name not in ("layer_idx", "training")
    )
    shapes = tuple((name, own.shape, own.dtype) for name, own in module.named_parameters(recurse=False))
    children = tuple((name, _code(child)) for name, child in module.named_children())
    return type(module), settings, shapes, children

"""Which body of an op runs, and how an op meets torch; knows devices and the environment, not what ops compute."""

import os
from collections.abc import Callable, Mapping
from importlib.util import find_spec
from typing import Any, Final

import torch

from quire_kernels._checks import KernelError

Body = Callable[..., Any]

OVERRIDE: Final = "QUIRE_KERNELS"  # the environment's variable that names one body for every op and device
HAS_TRITON: Final = find_spec("triton") is not None
INTERPRETED: Final = os.environ.get("TRITON_INTERPRET") == "1"  # read at import, as Triton does when it meets a kernel

_BODY_OF: Final = {"cpu": "cpu", "cuda": "triton"}  # device -> the body made for it
# The ops live as long as this object; torch does not type it.
_LIBRARY: Any = torch.library.Library("quire", "FRAGMENT")  # type: ignore[no-untyped-call]


class BodyError(KernelError, RuntimeError):
    """The body that should run is unknown, or cannot run on these tensors or on this machine."""


def define(schema: str, *, check: Body, fake: Body, bodies: Mapping[str, Body]) -> Body:
    """Register an op in torch's "quire" namespace: it checks its arguments, then runs the body that fits them.

    Through Library rather than the custom_op decorator: a call then costs 2 to 5 microseconds instead of 15 to 20,
    and a step on the CPU makes two calls per layer. `fake` gets checked arguments too, and gives the result's shape.
    """
    name = _LIBRARY.define(schema)

    def run(*args: Any) -> Any:
        check(*args)
        device = args[0].device
        chosen = choose(device)
        body = bodies[chosen] if chosen in bodies else bodies["cpu"]  # "torch", where that is the CPU's only body
        if device.type != "cuda":
            return body(*args)
        with torch.cuda.device(device):  # Triton launches on the current device, whatever the tensors' own
            return body(*args)

    def shape(*args: Any) -> Any:
        check(*args)
        return fake(*args)

    _LIBRARY.impl(name, run, "CompositeExplicitAutograd")
    torch.library.register_fake(f"quire::{name}", shape, lib=_LIBRARY)
    op: Body = getattr(torch.ops.quire, name).default
    return op


def choose(device: torch.device) -> str:
    """Name the body for `device`: "reference", "cpu", "torch" (the CPU body without the library), "triton"."""
    own = _BODY_OF.get(device.type, "")
    name = os.environ.get(OVERRIDE) or own
    if name == "triton" and not HAS_TRITON:
        raise BodyError(
            f"tensors on {device} need triton, which is not installed: "
            f"pip install 'quire-kernels[triton]', or set {OVERRIDE}=reference to run slowly without it"
        )
    if name and (name in (own, "reference") or (name == "triton" and INTERPRETED)):
        return name
    if name == "torch" and own == "cpu":
        return name
    raise BodyError(_no_body(name, device))


def _no_body(name: str, device: torch.device) -> str:
    """Say why no body named `name` runs on `device`, and the way out."""
    if not name:
        return f"no op has a body for tensors on {device}: move them to cpu or cuda, or set {OVERRIDE}=reference"
    if name == "triton":
        return f"triton runs on {device} in its interpreter only: set TRITON_INTERPRET=1 before the first import"
    if name in ("cpu", "torch"):
        return f"{OVERRIDE}={name}, but the tensors are on {device}: unset it, or set it to triton or reference"
    return f"{OVERRIDE}={name} names no body: set it to reference, cpu, torch or triton, or unset it"

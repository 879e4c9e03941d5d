"""POST /reset_prefix_cache, POST /sleep, POST /wake_up, GET /is_sleeping: for whoever has an admin key."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query

from quire_engine.errors import RequestError
from quire_protocol.problems import shown
from quire_server.dependencies import ServingDep
from quire_server.routes.documented import REFUSED

router = APIRouter(tags=["admin"], responses={status: REFUSED[status] for status in (400, 401)})


@router.post("/reset_prefix_cache")
async def reset_prefix_cache(serving: ServingDep) -> dict[str, bool]:
    """Forget every cached prompt; requests that run keep what they hold."""
    return {"success": await serving.engine.reset_prefix_cache()}


@router.post("/sleep")
async def sleep(
    serving: ServingDep,
    level: Annotated[int, Query(ge=0, le=2, description="1 and 2 do the same: all memory is given back.")] = 1,
    mode: Annotated[str, Query(description="`keep` is the only one: requests that run go on later.")] = "keep",
) -> dict[str, str | int]:
    """Give all of the engine's memory back. Requests that run, or come, wait until it is woken up."""
    if level == 0:
        raise RequestError(
            "level 0 would keep the engine's memory, and sleep gives all of it back: leave level out.", param="level"
        )
    if mode != "keep":
        raise RequestError(
            f"mode is {shown(mode)}, and sleep keeps the requests that run for later (keep): leave mode out. "
            "POST /inference/v1/abort_requests ends them.",
            param="mode",
        )
    await serving.engine.sleep()
    return {"status": "sleeping", "level": level}


@router.post("/wake_up")
async def wake_up(
    serving: ServingDep, tags: Annotated[list[str] | None, Query(description="Not supported: leave it out.")] = None
) -> dict[str, str]:
    """Load the engine again and go on with the requests that wait; answered once it is ready."""
    if tags:
        raise RequestError(
            "tags would wake up parts of the engine, and it wakes up as a whole: leave tags out.", param="tags"
        )
    await serving.engine.wake_up()
    return {"status": "awake"}


@router.get("/is_sleeping")
async def is_sleeping(serving: ServingDep) -> dict[str, bool]:
    """Whether the engine sleeps."""
    return {"is_sleeping": serving.engine.is_sleeping}

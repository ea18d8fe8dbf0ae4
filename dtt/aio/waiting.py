"""
Waiting for Deferreds in coroutines of asyncio.
"""

from __future__ import annotations

import asyncio
from typing import TypeVar

from twisted.internet.defer import Deferred

T = TypeVar("T")


async def result_of(deferred: Deferred[T]) -> T:
    """
    Wait for a Deferred, and cancel it if the task is cancelled.
    """
    return await deferred.asFuture(asyncio.get_running_loop())


async def finish(deferred: Deferred[T]) -> None:
    """
    Wait until a Deferred has fired, even if the task is cancelled meanwhile; then raise C{CancelledError}
    afterwards.
    """
    future = deferred.asFuture(asyncio.get_running_loop())
    cancelled: asyncio.CancelledError | None = None
    while not future.done():
        try:
            await asyncio.shield(future)
        except asyncio.CancelledError as error:
            cancelled = error
        except Exception:  # that of the Deferred, which is raised below
            break
    future.result()
    if cancelled is not None:
        raise cancelled

"""
Helpers for delayed calls.
"""

from __future__ import annotations

from twisted.internet.interfaces import IDelayedCall


def cancel_if_active(call: IDelayedCall | None) -> None:
    """
    Cancel C{call} unless it is C{None}, has run or was cancelled.
    """
    if call is not None and call.active():
        call.cancel()

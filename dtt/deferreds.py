"""
Delayed calls that may be over.
"""

from __future__ import annotations

from twisted.internet.interfaces import IDelayedCall


def cancel_if_active(call: IDelayedCall | None) -> None:
    """
    Cancel C{call}, if there is one and it has not happened.
    """
    if call is not None and call.active():
        call.cancel()

"""
Values that are made by the thousand a second.

C{frozen} is attrs' own for the type checker, which so finds whoever changes one;
at run time nothing is in the way, since setting attributes past such a guard
takes a frozen class two to three times as long to make (attrs, "Frozen
instances" in "How Does It Work?").  For what the machines take and give, not for
what applications get.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from attrs import frozen
else:
    from functools import partial

    from attrs import define

    frozen = partial(define, unsafe_hash=True)

__all__ = ["frozen"]

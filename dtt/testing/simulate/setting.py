"""
The parameters of a simulated world.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from attrs import field, frozen

from dtt.testing.storage.nodes import MIX

#: The policies of members.
RULES: Final = ("dtt", "upstream")


@frozen(slots=True)
class Setting:
    """
    The parameters of a world.

    @ivar nodes: the number of DHT nodes.
    @ivar silent: the share of nodes that never answer, 0..1.
    @ivar secure: the share of nodes with an id that is valid by BEP42, 0..1.
    @ivar manners: the implementations of the nodes, and their shares.
    @ivar low: the smallest one-way latency, in seconds.
    @ivar high: the largest one-way latency, in seconds.
    @ivar loss: the share of datagrams and TCP segments lost in each direction, 0..1.
    @ivar duplication: the share of datagrams that arrive twice, 0..1.
    @ivar reordering: the share of datagrams and segments that are late, 0..1.
    @ivar transport: the members' transports, as in L{Config<dtt.config.Config>}.
    @ivar rule: how members find each other, unless a scenario says otherwise: one of
        L{RULES}.
    @ivar topic: the name of the topic.
    @ivar secret: its secret.
    @ivar config: further settings of members: fields of L{Config<dtt.config.Config>}, such
        as those that switch discovery channels.
    """

    nodes: int = 1000
    silent: float = 0.2
    secure: float = 1.0
    manners: Mapping[str, float] = field(factory=lambda: dict(MIX))
    low: float = 0.02
    high: float = 0.2
    loss: float = 0.0
    duplication: float = 0.0
    reordering: float = 0.0
    transport: tuple[str, ...] = ("streams",)
    rule: str = field(default="dtt")
    topic: str = "a topic"
    secret: bytes = field(default=b"a secret", repr=False)
    config: Mapping[str, Any] = field(factory=dict)

    @rule.validator
    def _check_rule(self, _: object, value: str) -> None:
        if value not in RULES:
            raise ValueError(f"rule must be one of {', '.join(RULES)}")

"""
One dial over iroh: all that is known of a peer, in one attempt.

Rules: the library tries addresses and the relay side by side, and checks the
peer's id.  A relay whose URL it can't read does not spoil the other addresses;
for false addresses see L{dtt.transport.quic_suspects}.
"""

from __future__ import annotations

from collections.abc import Sequence

from twisted.internet.defer import CancelledError
from twisted.internet.interfaces import IReactorTime

from dtt.errors import DialFailed
from dtt.hints import Address, PeerAddress, RelayAddress
from dtt.interfaces import PeerId
from dtt.transport.iroh_bindings import Bindings, IrohConnection, IrohEndpoint
from dtt.transport.iroh_calls import Calls, IrohFailure
from dtt.transport.quic_endpoint import ALPN
from dtt.transport.quic_suspects import Suspects

#: Why a dial failed that met somebody else.
OTHER_KEY = "other key answered"

_BAD_RELAY = "bad relay"

#: Pieces of what the library says when a dial fails, and what we say.
_REASONS = (
    ("UnknownIssuer", OTHER_KEY),
    ("known protocol", "other protocol"),
    ("timed out", "timed out"),
    ("No addressing", "no address"),
    ("relay URL", _BAD_RELAY),
)


class QuicDialing:
    """
    Connects.
    """

    def __init__(self, clock: IReactorTime, calls: Calls, bindings: Bindings) -> None:
        self._clock = clock
        self._calls = calls
        self._bindings = bindings
        self._suspects = Suspects()

    async def connect(
        self, endpoint: IrohEndpoint, peer_id: PeerId, addresses: tuple[Address, ...]
    ) -> IrohConnection:
        """
        An authenticated connection to C{peer_id}.

        @raise DialFailed: there is none.
        """
        chosen = self._suspects.choose(peer_id, addresses, self._clock.seconds())
        direct = [address for address in chosen if isinstance(address, PeerAddress)]
        relay = next((address.url for address in chosen if isinstance(address, RelayAddress)), None)
        try:
            return await self._try(endpoint, peer_id, direct, relay)
        except DialFailed as error:
            if str(error) == OTHER_KEY:
                self._suspects.other_key_answered(peer_id, self._clock.seconds())
            if str(error) != _BAD_RELAY or not direct:
                raise
        return await self._try(endpoint, peer_id, direct, None)

    async def _try(
        self, endpoint: IrohEndpoint, peer_id: PeerId, direct: Sequence[PeerAddress], relay: str | None
    ) -> IrohConnection:
        bindings = self._bindings
        try:
            address = bindings.EndpointAddr(
                bindings.EndpointId.from_bytes(peer_id), relay, [str(each) for each in direct]
            )
            return await self._calls.call(endpoint.connect(address, ALPN))
        except bindings.IrohError:
            raise DialFailed("not a key") from None
        except CancelledError:
            raise DialFailed("cancelled") from None
        except IrohFailure as error:
            words = error.text
            reason = next((reason for piece, reason in _REASONS if piece in words), "connection failed")
            raise DialFailed(reason) from None

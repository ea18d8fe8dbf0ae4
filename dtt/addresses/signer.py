"""
Creates our own signed packets: their content and their sequence numbers.

Rules (docs/protocol/addresses.md section 1): a sequence number is
max(now, last + 1) in microseconds.  It is written to disk before the packet is published, so it never
decreases, even after a restart.  Without an address there is no packet.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from attrs import frozen
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from dtt.addresses.pkarr import Packet, write_dns
from dtt.errors import PublishFailed
from dtt.identity import PeerKey
from dtt.krpc.items import MAX_SEQ
from dtt.state import StateDirectory, StateFile
from dtt.wire.addresses import Address

#: The file in the state directory, and the version of its format.
SEQ_FILE = "pkarr.json"
VERSION = 1


@frozen(eq=False)
class LocalPeer:
    """
    Ourselves, as others may find us.

    @ivar key: our key pair.
    @ivar addresses: returns our addresses of all transports (docs/protocol/addresses.md
        section 3); called each time.
    @ivar state: stores the sequence number of our packets and the peers that were reached;
        C{None}: they are not stored.
    """

    key: PeerKey
    addresses: Callable[[], Sequence[Address]]
    state: StateDirectory | None


class Signer:
    """
    Makes our packets.

    @ivar key: our key pair.
    @ivar last_seq: the sequence number of the last packet; 0: there was none.
    """

    _log = Logger()

    def __init__(self, reactor: IReactorTime, local: LocalPeer) -> None:
        """
        @param local: ourselves; our addresses are asked for each packet.
        """
        self.key = local.key
        self.last_seq = 0
        self._reactor = reactor
        self._addresses = local.addresses
        self._file = StateFile(
            local.state, SEQ_FILE, _decode_seq, lambda seq: {"version": VERSION, "seq": seq}
        )

    def load(self) -> None:
        """
        Read the last sequence number.

        @raise StateError: the file can't be read.
        """
        self.last_seq = max(self._file.load() or 0, self.last_seq)

    def dns(self) -> bytes | None:
        """
        Return the DNS packet with our current addresses; C{None} if there are none.
        """
        addresses = self._addresses()
        return write_dns(self.key.peer_id, addresses) if addresses else None

    def packet(self, dns: bytes, above: int = 0) -> Packet:
        """
        Create a packet that supersedes all earlier ones, and save its sequence number.

        @param dns: the DNS packet.
        @param above: one of our sequence numbers that a store already has.
        @raise PublishFailed: there is no higher sequence number.
        """
        seq = max(int(self._reactor.seconds() * 1e6), self.last_seq + 1, above + 1)
        if seq > MAX_SEQ:
            raise PublishFailed("no higher sequence number")
        self.last_seq = seq
        self._file.save(seq)
        return Packet(self.key.peer_id, seq, dns)


def _decode_seq(saved: Mapping[str, Any]) -> int:
    seq = saved.get("seq")
    if saved.get("version") == VERSION and type(seq) is int and 0 <= seq <= MAX_SEQ:
        return seq
    raise ValueError("not a sequence number")

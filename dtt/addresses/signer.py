"""
Our own packets: what is in them, and their sequence numbers.

Rules (docs/protocol/addresses.md section 1): a sequence number is max(now, last + 1) in
microseconds, and is on the disk before the packet is anywhere, so that it never
goes back, not over restarts either.  Without an address there is no packet.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from dtt.addresses.pkarr import Packet, write_dns
from dtt.errors import PublishFailed, StateError
from dtt.identity import PeerKey
from dtt.krpc.items import MAX_SEQ
from dtt.state import StateDirectory
from dtt.wire.addresses import Address

#: The file in the state directory, and its format.
SEQ_FILE = "pkarr.json"
VERSION = 1


class Signer:
    """
    Makes our packets.

    @ivar key: who we are.
    @ivar last_seq: of the last packet; 0: there was none.
    """

    _log = Logger()

    def __init__(
        self,
        reactor: IReactorTime,
        key: PeerKey,
        addresses: Callable[[], Sequence[Address]],
        state: StateDirectory | None,
    ) -> None:
        """
        @param addresses: what we list (docs/protocol/addresses.md section 3); asked
            again for each packet.
        @param state: where the last sequence number is kept; C{None}: nowhere.
        """
        self.key = key
        self.last_seq = 0
        self._reactor = reactor
        self._addresses = addresses
        self._state = state

    def load(self) -> None:
        """
        Read the last sequence number.

        @raise StateError: the file can't be read.
        """
        if self._state is None or (saved := self._state.read_json(SEQ_FILE)) is None:
            return
        seq = saved.get("seq")
        if saved.get("version") == VERSION and type(seq) is int and 0 <= seq <= MAX_SEQ:
            self.last_seq = max(seq, self.last_seq)
        else:
            self._state.put_aside(SEQ_FILE, "no sequence number")

    def dns(self) -> bytes | None:
        """
        The DNS packet with our present addresses; C{None} without any.
        """
        addresses = self._addresses()
        return write_dns(self.key.peer_id, addresses) if addresses else None

    def packet(self, dns: bytes, above: int = 0) -> Packet:
        """
        A packet that goes before all earlier ones.

        @param above: a sequence number of ours that was seen somewhere.
        @raise PublishFailed: there is no higher sequence number.
        """
        seq = max(int(self._reactor.seconds() * 1e6), self.last_seq + 1, above + 1)
        if seq > MAX_SEQ:
            raise PublishFailed("no higher sequence number")
        self.last_seq = seq
        if self._state is not None:
            try:
                self._state.write_json(SEQ_FILE, {"version": VERSION, "seq": seq})
            except StateError as error:
                self._log.error("The sequence number was not written: {error}", error=error)
        return Packet(self.key.peer_id, seq, dns)

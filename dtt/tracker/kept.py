"""
The state that a tracker keeps in its state directory: its key, its ports, its DHT node and the members
of its swarms.  L{AddressService<dtt.addresses.service.AddressService>} keeps addresses there,
too.

Rule: nothing is written before the ports are bound, nor after the directory is unlocked, since
another process may use it then.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from twisted.internet.interfaces import IDelayedCall, IReactorTime

from dtt.deferreds import cancel_if_active
from dtt.dht import saved as saved_dht
from dtt.dht.node import DHTNode
from dtt.discovery.swarm_memory import SwarmMemory
from dtt.identity import PeerKey
from dtt.state import StateDirectory, StateFile, absolute, load_or_create_key
from dtt.tracker.saved import SavedPorts

#: Files of the state directory.
KEY_FILE: Final = "peer.key"
PORTS_FILE: Final = "ports.json"
SWARMS_FILE: Final = "swarms.json"

#: Seconds from a change of the neighbours until they are saved (guess: a member that is
#: killed soon after its start finds the others again).
MEMORY_DELAY: Final = 10.0


class KeptState:
    """
    The state of a tracker.

    @ivar directory: the state directory; C{None}: nothing is kept.
    @ivar ports: the ports to use again.
    @ivar node: the state of the DHT node from the last run.
    @ivar memory: the members to which we were connected last; C{None}: none are remembered.
    @ivar may_write: an attribute to set: whether the ports are bound.
    """

    def __init__(self, clock: IReactorTime, path: Path | None) -> None:
        """
        @param clock: schedules writes.
        @param path: the path of the state directory; C{None}: nothing is kept.
        @raise StateError: the directory can't be used.
        """
        self.directory = None if path is None else StateDirectory(absolute(path))
        self.ports = SavedPorts()
        self.node = saved_dht.SavedNode()
        self.memory: SwarmMemory | None = None
        self.may_write = False
        self._clock = clock
        self._writing: IDelayedCall | None = None
        self._ports_file = StateFile(self.directory, PORTS_FILE, SavedPorts.from_json, SavedPorts.to_json)
        self._memory_file = StateFile(self.directory, SWARMS_FILE, SwarmMemory.from_json, SwarmMemory.to_json)

    def lock(self) -> None:
        """
        Lock the directory.

        @raise StateError: another process uses it.
        """
        if self.directory is not None:
            self.directory.lock()

    def unlock(self) -> None:
        """
        Unlock the directory; nothing is written from now on.
        """
        self.may_write = False
        cancel_if_active(self._writing)
        self._writing = None
        if self.directory is not None:
            self.directory.unlock()

    def key(self) -> PeerKey | None:
        """
        Return our key, and create it if there is none; C{None}: nothing is kept.

        @raise StateError: the file can't be used.
        """
        return None if self.directory is None else load_or_create_key(self.directory.path / KEY_FILE)

    def load(self, *, with_memory: bool) -> None:
        """
        Load everything except the key.

        @param with_memory: whether to remember members.
        @raise StateError: a file can't be read.
        """
        if self.directory is None:
            return
        self.ports = self._ports_file.load() or SavedPorts()
        self.node = saved_dht.load(self.directory)
        if with_memory:
            self.memory = self._memory_file.load() or SwarmMemory()
            self.memory.on_changed = self._write_memory_soon

    def save(self, dht: DHTNode | None) -> None:
        """
        Save everything except the key.  A failure is logged, not raised.

        @param dht: our DHT node; C{None}: it is the application's.
        """
        if self.directory is None or not self.may_write:
            return
        self._ports_file.save(self.ports)
        if dht is not None:
            saved_dht.save(self.directory, dht)
        self._write_memory()

    def _write_memory_soon(self) -> None:
        if self.may_write and self._writing is None:
            self._writing = self._clock.callLater(MEMORY_DELAY, self._write_memory)

    def _write_memory(self) -> None:
        cancel_if_active(self._writing)
        self._writing = None
        if self.memory is not None:
            self._memory_file.save(self.memory)

"""
Our own mutable items, which a node serves without storing them.  Pure.

Rules (docs/protocol/sealed.md section 4): our own item takes precedence over one that others have stored
under the same target. It is created and signed on request. Every C{get} looks here first, at a cost that does
not depend on the number of items.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable
from typing import Final, TypeAlias

from dtt.interfaces import ServedItem
from dtt.krpc.items import MutableItem, sign_item

#: Returns our item with a target (20 bytes), or C{None}.
ItemSource: TypeAlias = Callable[[bytes], ServedItem | None]

#: The most signed items that are remembered. Guess: three for each of some twenty topics.
MAX_SIGNED: Final = 64


class OwnItems:
    """
    Our own items, from any number of sources.

    @ivar targets: the targets that have a source, for fast checks.
    """

    def __init__(self) -> None:
        # The sources of each target, the first ones first.
        self._sources: dict[bytes, dict[object, ItemSource]] = {}
        self._signed: dict[ServedItem, MutableItem] = {}
        self.targets: Container[bytes] = self._sources

    def add(self, targets: Iterable[bytes], source: ItemSource) -> Callable[[], None]:
        """
        Add a source.

        @param targets: the targets of its items, 20 bytes each.
        @return: a function that removes it.
        """
        key = object()
        ours = tuple(targets)
        for target in ours:
            self._sources.setdefault(target, {})[key] = source

        def remove() -> None:
            for target in ours:
                sources = self._sources.get(target, {})
                sources.pop(key, None)
                if not sources:
                    self._sources.pop(target, None)

        return remove

    def get(self, target: bytes) -> MutableItem | None:
        """
        Return our item with a target, or C{None}.

        @param target: 20 bytes.
        """
        sources = self._sources.get(target)
        if sources is None:
            return None
        for source in tuple(sources.values()):
            served = source(target)
            if served is not None:
                return self._sign(served)
        return None

    def _sign(self, served: ServedItem) -> MutableItem:
        item = self._signed.get(served)
        if item is None:
            if len(self._signed) >= MAX_SIGNED:
                del self._signed[next(iter(self._signed))]
            item = sign_item(served.signing_seed, served.salt, served.seq, served.value)
            self._signed[served] = item
        return item

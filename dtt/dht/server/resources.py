"""
The resources that a node provides to others: memory and upload.  Its address families share them (BEP32).
"""

from __future__ import annotations

from attrs import field, frozen

from dtt.dht.server.own_items import OwnItems
from dtt.dht.server.storage import MAX_ITEMS, MAX_PEERS, ItemStore, PeerStore
from dtt.dht.server.upload import UPLOAD_RATE, AnswerLimits


@frozen(slots=True)
class Resources:
    """
    The stores and limits of a node.

    @ivar limits: the upload limits.
    @ivar items: the BEP44 items stored.
    @ivar peers: the BEP5 peers announced.
    @ivar own: our own items, which are not stored.
    """

    limits: AnswerLimits
    items: ItemStore
    peers: PeerStore
    own: OwnItems = field(factory=OwnItems)

    @classmethod
    def create(cls, node_id: bytes, *, closed: bool = False, upload_rate: float = UPLOAD_RATE) -> Resources:
        """
        Create empty stores.

        @param node_id: our 20-byte id.
        @param closed: on one machine all nodes are in one network, which may fill the
            stores, without upload limits.
        @param upload_rate: the most bytes per second sent in answers.
        """
        limits = AnswerLimits(upload_rate=upload_rate, closed=closed)
        if closed:
            return cls(limits, ItemStore(node_id, share=MAX_ITEMS), PeerStore(node_id, share=MAX_PEERS))
        return cls(limits, ItemStore(node_id), PeerStore(node_id))

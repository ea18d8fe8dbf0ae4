"""
Every setting, with its default. Copy the settings that you want to change; the others keep their defaults.

The same settings can be read from a file: C{dtt.config.load_toml}.
"""

from __future__ import annotations

from dtt.config import (
    PUBLIC_BOOTSTRAP,
    AddressesConfig,
    BootstrapConfig,
    BubbleMergeConfig,
    Config,
    DHTConfig,
    DiscoveryConfig,
    GossipSettings,
    IrohConfig,
    MessageOverlapMergeConfig,
    PublisherConfig,
    TimeoutsConfig,
    WebConfig,
)

config = Config(
    state_dir=None,  # a directory: the peer id, the ports and the known DHT nodes are kept
    transport=None,  # all that are installed: ("streams", "quic", "iroh")
    listen=("0.0.0.0", 0),  # TCP; 0: any port, the same one at each start
    require_secret=False,  # refuse members that have not proved that they know the secret
    port_mapping=True,  # ask the router to map ports
    max_connections=512,
    iroh=IrohConfig(listen=None, preset="none", relays=()),
    dht=DHTConfig(
        port=0,  # UDP
        bind="",
        bind6="auto",
        bootstrap=PUBLIC_BOOTSTRAP,
        upload_rate=8000.0,
        retries=3,
        base_retry_interval=5.0,
        max_retry_jitter=10.0,
        get_timeout=10.0,
        put_timeout=10.0,
    ),
    discovery=DiscoveryConfig(sealed=True, announce_peer="alone", lan=True, memory=True),
    bootstrap=BootstrapConfig(
        max_bootstrap_records=5,
        no_peers_retry_interval=1.5,
        per_peer_join_settle_time=0.1,
        join_confirmation_wait_time=0.5,
        discovery_poll_interval=2.0,
        publish_record_on_startup=True,
        check_older_records_first_on_startup=False,
    ),
    publisher=PublisherConfig(enabled=True, initial_delay=10.0, base_interval=10.0, max_jitter=50.0),
    bubble_merge=BubbleMergeConfig(
        enabled=True,
        initial_interval=30.0,
        base_interval=60.0,
        max_jitter=120.0,
        min_neighbors=4,
        max_join_peers=2,
    ),
    message_overlap_merge=MessageOverlapMergeConfig(
        enabled=True,
        initial_interval=30.0,
        base_interval=60.0,
        max_jitter=120.0,
        max_join_peers=2,
    ),
    timeouts=TimeoutsConfig(join_peer=5.0, broadcast=5.0, broadcast_neighbors=5.0),
    gossip=GossipSettings(
        active_view_capacity=5,
        passive_view_capacity=30,
        shuffle_interval=60.0,
        max_cached_bytes=32 * 2**20,
        max_message_size=4096,  # equal for all members
    ),
    addresses=AddressesConfig(
        pkarr=True,
        publish=True,
        pkarr_interval=3600.0,
        relays=(),
        relay_interval=300.0,
    ),
    web=WebConfig(listen=None, hosts=()),  # the status page
)

"""
The twistd plugin C{twistd dtt}.
"""

from twisted.application.service import ServiceMaker

dtt = ServiceMaker(
    "dtt",
    "dtt.tap",
    "Distributed Topic Tracker: find the members of a topic through the BitTorrent DHT.",
    "dtt",
)

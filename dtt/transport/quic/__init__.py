"""
QUIC on the DHT's own UDP socket: the transport between members behind NATs.
"""

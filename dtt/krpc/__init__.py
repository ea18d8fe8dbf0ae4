"""
KRPC, the wire protocol of the DHT (BEP5): bencode, messages, transactions, rate limits.
"""

"""
Encodings shared by records, gossip and transports. Pure.
"""

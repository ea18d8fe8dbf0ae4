"""
Encodings that records, gossip and transports share.  Pure.
"""

"""
One topic's gossip member: drives the protocol state machines over a transport.
"""

"""
One topic's gossip member: it drives the protocol machines over a transport.
"""

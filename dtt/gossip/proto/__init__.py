"""
HyParView and PlumTree as state machines, and iroh-gossip's messages.  Pure.
"""

"""
HyParView and PlumTree as state machines, and the messages of iroh-gossip.  Pure.
"""

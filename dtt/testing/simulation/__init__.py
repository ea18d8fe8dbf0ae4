"""
Simulations of gossip swarms with thousands of members in one process.
"""

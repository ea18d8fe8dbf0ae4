"""
Gossip swarms of thousands in one process.
"""

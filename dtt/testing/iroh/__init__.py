"""
The iroh bindings over a network in memory.
"""

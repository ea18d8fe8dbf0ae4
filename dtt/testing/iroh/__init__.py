"""
The iroh bindings over an in-memory network.
"""

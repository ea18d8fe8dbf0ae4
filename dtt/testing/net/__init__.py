"""
In-memory networks and machines, driven by a clock.
"""

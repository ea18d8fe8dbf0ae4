"""
How members of a topic are found.
"""

"""
The server side of a DHT node: storage, write tokens and upload limits.
"""

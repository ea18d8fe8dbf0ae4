"""
What a DHT node answers: storage, write tokens and upload limits.
"""

"""
The client side of a DHT node: lookups, reads and puts, and the placement of records.
"""

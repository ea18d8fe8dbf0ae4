"""
What a DHT node asks of others: lookups, reads and puts, and the placement of records.
"""

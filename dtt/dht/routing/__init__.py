"""
The routing table, its buckets, and node ids (BEP42). Pure.
"""

"""
Topics, slots, and the encoding and encryption of records.  Pure.
"""

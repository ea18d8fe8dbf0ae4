"""
Topics, slots and records, and how records are sealed.  Pure.
"""

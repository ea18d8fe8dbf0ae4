"""
Authenticated connections between members.
"""

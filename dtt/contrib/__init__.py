"""
Helpers for applications that are built on topics.
"""

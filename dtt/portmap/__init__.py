"""
Port mapping: asking the router to forward ports.
"""

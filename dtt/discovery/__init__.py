"""
Discovery of the members of a topic: reads and writes records in slots.
"""

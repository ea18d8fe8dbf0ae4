"""
Networks and machines in memory, under a clock.
"""

"""
What C{twistd dtt} and the commands share: options, JSON lines, signals.
"""

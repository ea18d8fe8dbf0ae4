"""
Code shared by C{twistd dtt} and the command C{dtt}: options, JSON lines, signals.
"""

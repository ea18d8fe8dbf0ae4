"""
Application streams: byte streams of applications, on the connections of members.
"""

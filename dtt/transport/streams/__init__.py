"""
The streams transport: TLS 1.3 over TCP.
"""

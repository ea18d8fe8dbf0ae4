"""
The iroh transport: QUIC through the iroh bindings, which Rust peers speak.
"""

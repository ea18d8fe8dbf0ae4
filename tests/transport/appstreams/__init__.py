"""
Tests for L{dtt.transport.appstreams}.
"""

"""
Tests for L{IPeerTransport}, by subject; L{tests.transport.test_contract} runs them on each kind of network.
"""

"""
In-memory networks and fakes, for the tests of dtt and of applications that use it.
"""

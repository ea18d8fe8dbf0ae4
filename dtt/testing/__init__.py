"""
Networks in memory and fakes, for the tests of dtt and of applications.
"""

"""
The command C{dtt} and its subcommands.
"""

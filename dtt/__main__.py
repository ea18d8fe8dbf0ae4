"""
C{python -m dtt}: the same as the command C{dtt}.
"""

from dtt.cli.main import main

main()

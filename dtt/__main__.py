"""
C{python -m dtt} runs the command C{dtt}.
"""

from dtt.cli.main import main

main()

"""
The version, maintained with incremental: C{python -m incremental.update dtt --help}.
"""

from incremental import Version

__version__ = Version("dtt", 0, 1, 0)
__all__ = ["__version__"]

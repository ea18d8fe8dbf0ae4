"""
The build backend: setuptools, without what an earlier build has left.

Rules: setuptools copies the package to C{build/lib} and never removes a module
that is gone from the source; the next wheel carries it.  Its C{*.egg-info} lists
files that are gone, too.  Both are removed before each build, and after it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from shutil import rmtree
from typing import Any

from setuptools import build_meta
from setuptools.build_meta import (
    get_requires_for_build_editable as get_requires_for_build_editable,
)
from setuptools.build_meta import (
    get_requires_for_build_sdist as get_requires_for_build_sdist,
)
from setuptools.build_meta import (
    get_requires_for_build_wheel as get_requires_for_build_wheel,
)

_Settings = dict[str, Any] | None


def _clean() -> None:
    for leftover in (*Path("build").glob("lib*"), *Path("build").glob("bdist.*"), *Path().glob("*.egg-info")):
        rmtree(leftover)
    if Path("build").is_dir() and not any(Path("build").iterdir()):
        Path("build").rmdir()


@contextmanager
def _cleanly() -> Iterator[None]:
    _clean()
    try:
        yield
    finally:
        _clean()


def build_wheel(directory: str, settings: _Settings = None, metadata: str | None = None) -> str:
    """
    PEP 517.
    """
    with _cleanly():
        return str(build_meta.build_wheel(directory, settings, metadata))


def build_sdist(directory: str, settings: _Settings = None) -> str:
    """
    PEP 517.
    """
    with _cleanly():
        return str(build_meta.build_sdist(directory, settings))


def build_editable(directory: str, settings: _Settings = None, metadata: str | None = None) -> str:
    """
    PEP 660.
    """
    with _cleanly():
        return str(build_meta.build_editable(directory, settings, metadata))

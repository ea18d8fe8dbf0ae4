"""
Tests that run the programs in examples/.
"""

from __future__ import annotations

import sys
from importlib import import_module
from pathlib import Path
from types import ModuleType

from twisted.trial.unittest import SkipTest

import dtt

EXAMPLES = Path(dtt.__file__).parents[1] / "examples"


def load(name: str) -> ModuleType:
    """
    Import an example as if its folder were the current directory.

    @param name: its name, or C{"FOLDER/NAME"}.
    """
    folder, _, module = f"./{name}".rpartition("/")
    path = EXAMPLES / folder
    if not path.is_dir():
        raise SkipTest("the examples are not beside an installed package")
    sys.path.insert(0, str(path))
    try:
        return import_module(module)
    finally:
        sys.path.remove(str(path))

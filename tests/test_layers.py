"""
Tests for the layers of the architecture (docs/explanation/architecture.md): which module
may import which.
"""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

import dtt

ROOT = Path(dtt.__file__).parent

#: The layer of each package and top-level module. The longest matching path applies.
LAYERS = {
    "_version": 0,
    "errors": 0,
    "arguments": 0,
    "feed": 0,
    "counters": 0,
    "events": 0,
    "deferreds": 0,
    "files": 0,
    "wire": 0,
    "net": 0,
    "identity": 1,
    "state": 1,
    "config": 1,
    "setting_types": 1,
    "interfaces": 1,
    "records": 2,
    "gossip/proto": 2,
    "krpc": 3,
    "dht": 4,
    "portmap": 4,
    "transport": 4,
    "gossip": 4,
    "addresses": 5,
    "discovery": 5,
    "tracker": 6,
    "contrib": 7,
    "testing": 7,
    "signed": 7,
    "web": 7,
    "app": 8,
    "tap": 9,
    "aio": 9,
    "cli": 9,
    "__init__": 10,
    "__main__": 10,
}

#: In these layers, top-level modules and packages may import each other.
SHARED_LAYERS = (0, 1)

#: Packages and modules that are sans-I/O, in addition to those whose docstring says "Pure" in its first
#: paragraph.
PURE = ("wire/", "records/", "gossip/proto/", "dht/routing/")

#: Modules that pure modules never import directly: time, randomness and bytes are arguments.
IMPURE = ("twisted", "time", "random", "socket", "os", "secrets", "asyncio", "threading")

#: Modules that importing a pure module never loads, even indirectly.
NOT_LOADED = ("twisted", "fcntl", "tempfile", "socket", "asyncio")


def layer(name: str) -> int:
    """
    Return the layer of a module, by its path without suffix.
    """
    parts = name.split("/")
    for length in (2, 1):
        found = LAYERS.get("/".join(parts[:length]))
        if found is not None:
            return found
    raise AssertionError(f"{name} has no layer")


def package(name: str) -> str:
    """
    Return the package to which a module belongs.
    """
    parts = name.split("/")
    return "/".join(parts[:2]) if "/".join(parts[:2]) in LAYERS else parts[0]


@cache
def modules() -> tuple[tuple[str, ast.Module], ...]:
    """
    Return each file of the package: its path without suffix, and its syntax tree.
    """
    return tuple(
        (path.relative_to(ROOT).with_suffix("").as_posix(), ast.parse(path.read_text("utf-8")))
        for path in sorted(ROOT.rglob("*.py"))
    )


@cache
def statements(tree: ast.AST) -> tuple[ast.AST, ...]:
    """
    Return the import statements anywhere in C{tree}.
    """
    return tuple(node for node in ast.walk(tree) if isinstance(node, ast.Import | ast.ImportFrom))


@cache
def imports(tree: ast.AST) -> tuple[str, ...]:
    """
    Return the modules imported anywhere in C{tree}, including those for type checkers only.
    A relative import has the name C{"."}.
    """
    return tuple(names_in(statements(tree)))


def names_in(nodes: Iterable[ast.AST]) -> Iterator[str]:
    """
    Return the modules that these statements import.
    """
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            package = "." if node.level else str(node.module)
            yield package
            # A name imported from a folder may be a file in it.
            for name in node.names:
                if package.startswith("dtt") and (ROOT.parent / package.replace(".", "/")).is_dir():
                    yield f"{package}.{name.name}"


def loads(tree: ast.AST) -> Iterator[str]:
    """
    Return the same without those for type checkers only.
    """
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            continue
        if isinstance(node, ast.Import | ast.ImportFrom):
            yield from names_in([node])
        yield from loads(node)


def is_pure(name: str, tree: ast.Module) -> bool:
    """
    Return whether the module C{name} must be pure.
    """
    first_paragraph = (ast.get_docstring(tree) or "").split("\n\n")[0]
    return name.startswith(PURE) or bool(re.search(r"\bPure\b", first_paragraph))


class LayersTests(SynchronousTestCase):
    """
    Tests for the imports as written.
    """

    def test_every_file_has_a_layer(self) -> None:
        """
        Every package and top-level module has a layer, and every entry exists.
        """
        names = [name for name, _ in modules()]
        self.assertEqual({package(name) for name in names}, set(LAYERS))
        for name in names:
            layer(name)

    def test_imports_point_down(self) -> None:
        """
        A module imports only from lower layers, from its own package, and in the lowest
        layers from modules of the same layer.
        """
        wrong = []
        for name, tree in modules():
            for imported in imports(tree):
                if not imported.startswith("dtt.") or imported in ("dtt.__version__", "dtt._version"):
                    continue
                other = imported.removeprefix("dtt.").replace(".", "/")
                if package(other) == package(name) or layer(other) < layer(name):
                    continue
                if layer(other) == layer(name) and layer(name) in SHARED_LAYERS:
                    continue
                if layer(other) == layer(name) == LAYERS["cli"]:
                    continue
                wrong.append(f"{name} imports {imported}")
        self.assertEqual(wrong, [])

    def test_imports_are_absolute(self) -> None:
        """
        Imports are absolute, so that these tests can read them.
        """
        self.assertEqual([name for name, tree in modules() if "." in imports(tree)], [])

    def test_what_counts(self) -> None:
        """
        An import counts in every place and form, also for type checkers only.
        """
        for written, meant in (
            ("import dtt.tap", ["dtt.tap"]),
            ("from dtt.tap import Options", ["dtt.tap"]),
            ("from dtt import tap", ["dtt", "dtt.tap"]),
            ("from dtt.krpc import items", ["dtt.krpc", "dtt.krpc.items"]),
            ("from . import tap", ["."]),
            ("from .tap import Options", ["."]),
            ("def f():\n  try:\n    import dtt.tap\n  finally:\n    pass", ["dtt.tap"]),
            ("if TYPE_CHECKING:\n  import dtt.tap", ["dtt.tap"]),
        ):
            self.assertEqual([*imports(ast.parse(written))], meant, written)

    def test_no_cycles(self) -> None:
        """
        No module imports itself indirectly.
        """
        graph = {
            name.replace("/", "."): {i.removeprefix("dtt.") for i in imports(tree) if i.startswith("dtt.")}
            for name, tree in modules()
        }
        done: set[str] = set()

        def visit(name: str, path: tuple[str, ...]) -> None:
            self.assertNotIn(name, path, " -> ".join((*path, name)))
            if name not in done:
                for other in graph.get(name, ()):
                    visit(other, (*path, name))
                done.add(name)

        for name in graph:
            visit(name, ())

    def test_pure_modules_are_pure(self) -> None:
        """
        Pure modules get time, randomness and bytes as arguments.
        """
        wrong = [
            f"{name} imports {imported}"
            for name, tree in modules()
            if is_pure(name, tree)
            for imported in loads(tree)
            if imported.split(".")[0] in IMPURE
        ]
        self.assertEqual(wrong, [])

    def test_pure_modules_load_nothing_impure(self) -> None:
        """
        In a new interpreter, all pure modules together load neither Twisted nor any module
        that does I/O.
        """
        pure = [f"dtt.{name.replace('/', '.')}" for name, tree in modules() if is_pure(name, tree)]
        self.assertGreater(len(pure), 30)
        code = (
            f"import sys, importlib\nfor name in {pure!r}:\n"
            "    importlib.import_module(name)\n"
            f"    print(name, *(each for each in {NOT_LOADED!r} if each in sys.modules))\n"
        )
        ran = subprocess.run([sys.executable, "-c", code], cwd=ROOT.parent, capture_output=True, text=True)
        self.assertEqual(ran.returncode, 0, ran.stderr)
        self.assertEqual(ran.stdout.splitlines(), pure)

    def test_the_global_reactor_is_imported_inside_functions_of_the_top_layer(self) -> None:
        """
        The global reactor is imported only inside functions of the top layer; all other
        code gets it as an argument.
        """
        wrong = [
            name
            for name, tree in modules()
            for node in statements(tree)
            if isinstance(node, ast.ImportFrom)
            and node.module == "twisted.internet"
            and any(alias.name == "reactor" for alias in node.names)
            and (layer(name) < LAYERS["cli"] or node in tree.body)
        ]
        self.assertEqual(wrong, [])

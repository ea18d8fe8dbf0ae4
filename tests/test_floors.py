"""
The floors of the house (docs/explanation/architecture.md): who may import whom.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

import dtt

ROOT = Path(dtt.__file__).parent

#: The floor of each folder and of each file beside them.
FLOORS = {
    "_version": 0,
    "errors": 0,
    "events": 0,
    "config": 0,
    "identity": 0,
    "state": 0,
    "hints": 0,
    "postcard": 0,
    "values": 0,
    "interfaces": 0,
    "krpc": 1,
    "records": 1,
    "gossip": 1,
    "dht": 2,
    "transport": 2,
    "addresses": 2,
    "tracker": 3,
    "testing": 4,
    "options": 4,
    "signals": 4,
    "eventlog": 4,
    "tap": 5,
    "cli": 5,
    "__init__": 6,
    "__main__": 6,
}

#: Neither Twisted nor time, randomness, sockets or files; and whatever else
#: says of itself that it is pure.
PURE = (
    "errors",
    "events",
    "hints",
    "postcard",
    "values",
    "krpc/bencode",
    "krpc/compact",
    "krpc/messages",
    "krpc/items",
    "krpc/pacing",
    "krpc/flood",
    "dht/limits",
    "dht/votes",
    "dht/node_id",
    "dht/arguments",
    "dht/buckets",
    "dht/routing",
    "dht/storage",
    "dht/tokens",
    "dht/placement",
    "records/topic",
    "records/hpke",
    "records/record",
    "gossip/",
    "tracker/saved",
)

IMPURE = ("twisted", "time", "random", "socket", "os", "secrets", "asyncio", "threading")


def modules() -> Iterator[tuple[str, ast.Module]]:
    """
    Each file of the package: its path without suffix, and its syntax tree.
    """
    for path in sorted(ROOT.rglob("*.py")):
        yield path.relative_to(ROOT).with_suffix("").as_posix(), ast.parse(path.read_text("utf-8"))


def _is_type_checking(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"


def imports(tree: ast.AST) -> Iterator[str]:
    """
    The modules that are imported anywhere in C{tree}, but not for type
    checkers alone.  A relative import has the name C{"."}.
    """
    for node in ast.iter_child_nodes(tree):
        if _is_type_checking(node):
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            package = "." if node.level else str(node.module)
            yield package
            # What is imported from a folder may be a file in it.
            for name in node.names:
                if package.startswith("dtt") and (ROOT.parent / package.replace(".", "/")).is_dir():
                    yield f"{package}.{name.name}"
        yield from imports(node)


def is_pure(name: str, tree: ast.Module) -> bool:
    """
    Whether the file C{name} is to be pure.
    """
    first_paragraph = (ast.get_docstring(tree) or "").split("\n\n")[0]
    return name.startswith(PURE) or bool(re.search(r"\bPure\b", first_paragraph))


class FloorsTests(SynchronousTestCase):
    """
    The imports, as they are written.
    """

    def test_every_file_has_a_floor(self) -> None:
        """
        A new folder or top-level file must be given its place.
        """
        parts = {name.split("/")[0] for name, _ in modules()}
        self.assertEqual(parts - set(FLOORS), set())

    def test_nothing_runs_up(self) -> None:
        """
        A file imports from floors below its own, from its own folder, and on
        floor 0 from its neighbours.
        """
        wrong = []
        for name, tree in modules():
            own = name.split("/")[0]
            for imported in imports(tree):
                if not imported.startswith("dtt."):
                    continue
                other = imported.split(".")[1]
                if (
                    other in ("__version__", own)
                    or FLOORS[other] < FLOORS[own]
                    or FLOORS[own] == FLOORS[other] == 0
                ):
                    continue
                if FLOORS[own] == FLOORS[other] >= 4 and "/" not in name:
                    continue
                wrong.append(f"{name} imports {imported}")
        self.assertEqual(wrong, [])

    def test_imports_are_absolute(self) -> None:
        """
        So that they can be read here.
        """
        self.assertEqual([name for name, tree in modules() if "." in imports(tree)], [])

    def test_what_counts(self) -> None:
        """
        An import counts wherever and however it is written; not one for type
        checkers.
        """
        for written, meant in (
            ("import dtt.tap", ["dtt.tap"]),
            ("from dtt.tap import Options", ["dtt.tap"]),
            ("from dtt import tap", ["dtt", "dtt.tap"]),
            ("from dtt.krpc import items", ["dtt.krpc", "dtt.krpc.items"]),
            ("from . import tap", ["."]),
            ("from .tap import Options", ["."]),
            ("def f():\n  try:\n    import dtt.tap\n  finally:\n    pass", ["dtt.tap"]),
            ("if TYPE_CHECKING:\n  import dtt.tap", []),
        ):
            self.assertEqual(list(imports(ast.parse(written))), meant, written)

    def test_no_circles(self) -> None:
        """
        No file imports itself, through whatever others.
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

    def test_pure_files_are_pure(self) -> None:
        """
        Time, randomness and bytes come to pure files as arguments.
        """
        wrong = [
            f"{name} imports {imported}"
            for name, tree in modules()
            if is_pure(name, tree)
            for imported in imports(tree)
            if imported.split(".")[0] in IMPURE
        ]
        self.assertEqual(wrong, [])

    def test_pure_files_exist(self) -> None:
        """
        The list of pure files names what is there.
        """
        names = [name for name, _ in modules()]
        self.assertEqual([pure for pure in PURE if not any(n.startswith(pure) for n in names)], [])

    def test_the_global_reactor_is_imported_inside_functions_of_the_top_floor(self) -> None:
        """
        Everything else is given its reactor.
        """
        wrong = [
            name
            for name, tree in modules()
            for node in ast.walk(tree)
            if isinstance(node, ast.ImportFrom)
            and node.module == "twisted.internet"
            and any(alias.name == "reactor" for alias in node.names)
            and (FLOORS[name.split("/")[0]] < 5 or node in tree.body)
        ]
        self.assertEqual(wrong, [])

"""
Tests for L{dtt.setting_types}.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from attrs import field, frozen
from attrs.validators import ge
from twisted.trial.unittest import SynchronousTestCase

from dtt.errors import WrongType
from dtt.net.host_port import HostPort
from dtt.setting_types import fits, shown, typed


@frozen(kw_only=True, field_transformer=typed)
class Inner:
    """
    Settings within settings.
    """

    on: bool = True


@frozen(kw_only=True, field_transformer=typed)
class Settings:
    """
    One setting of each type.
    """

    enabled: bool = True
    count: int = field(default=1, validator=ge(0))
    seconds: float = 1.0
    name: str = ""
    path: Path | None = None
    server: HostPort = ("host", 1)
    hosts: tuple[str, ...] = ()
    servers: tuple[HostPort, ...] = ()
    limit: int | float | None = None
    inner: Inner = Inner()


class TypedTests(SynchronousTestCase):
    """
    Tests for L{typed}.
    """

    def test_fits(self) -> None:
        """
        Values of the annotated types are accepted; a whole number is a number.
        """
        Settings(
            enabled=False,
            count=0,
            seconds=3,
            name="a",
            path=Path("/a"),
            server=("a", 5),
            hosts=("a", "b"),
            servers=(("a", 1),),
            limit=2.5,
            inner=Inner(on=False),
        )

    def test_wrong(self) -> None:
        """
        Any other value is refused with the name of the setting, what it must be, and what was given.
        """
        pair = '("HOST", PORT)'
        for name, value, expected in (
            ("enabled", "no", "True or False, not 'no'"),
            ("enabled", 1, "True or False, not 1"),
            ("count", True, "a whole number, not True"),
            ("count", 1.0, "a whole number, not 1.0"),
            ("seconds", False, "a number, not False"),
            ("seconds", "1", "a number, not '1'"),
            ("name", b"a", "a string, not b'a'"),
            ("path", "/a", "a path or None, not '/a'"),
            ("server", ["a", 5], f"{pair}, not ['a', 5]"),
            ("server", ("a",), f"{pair}, not ('a',)"),
            ("server", ("a", 5, 6), f"{pair}, not ('a', 5, 6)"),
            ("server", ("a", "5"), f"{pair}, not ('a', '5')"),
            ("hosts", "ab", "a tuple whose elements are each a string, not 'ab'"),
            ("hosts", ("a", 1), "a tuple whose elements are each a string, not ('a', 1)"),
            ("servers", ("a", 1), f"a tuple whose elements are each {pair}, not ('a', 1)"),
            ("limit", "1", "a whole number or a number or None, not '1'"),
            ("inner", {"on": True}, "an Inner, not {'on': True}"),
        ):
            settings: dict[str, Any] = {name: value}
            error = self.assertRaises(WrongType, Settings, **settings)
            self.assertEqual(str(error), f"{name} must be {expected}")

    def test_before_the_rules(self) -> None:
        """
        The type is checked before the rules of a setting, which need not check it.
        """
        self.assertRaises(ValueError, Settings, count=-1)
        self.assertRaises(WrongType, Settings, count="-1")

    def test_tuple_of_several(self) -> None:
        """
        A tuple of fixed length has that length.
        """
        self.assertTrue(fits(tuple[int, str], (1, "a")))
        self.assertFalse(fits(tuple[int, str], ("a", 1)))
        self.assertFalse(fits(tuple[int, str], ()))
        self.assertTrue(fits(tuple[int, ...], ()))


class ShownTests(SynchronousTestCase):
    """
    Tests for L{shown}.
    """

    def test_short(self) -> None:
        """
        A value appears with at most 80 characters.
        """
        self.assertEqual(shown("x" * 78), "'" + "x" * 78 + "'")
        self.assertEqual(shown("x" * 79), "'" + "x" * 76 + "...")

    def test_huge_number(self) -> None:
        """
        A number that Python refuses to write in decimal digits does not.
        """
        self.assertEqual(shown(10 ** (sys.get_int_max_str_digits() + 1)), "a huge number")

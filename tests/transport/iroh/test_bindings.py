"""
Tests for L{dtt.transport.iroh.bindings}.
"""

from __future__ import annotations

import ctypes
import importlib
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from types import ModuleType, SimpleNamespace
from typing import Any

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from dtt.errors import UsageError
from dtt.identity import PeerKey
from dtt.transport.iroh import bindings as iroh_bindings
from dtt.transport.iroh.bindings import join_address, load_bindings, split_address, unavailable_reason
from dtt.transport.iroh.transport import IrohTransport


class LoadTests(SynchronousTestCase):
    """
    Tests for L{load_bindings}.
    """

    def test_not_installed(self) -> None:
        """
        Without the package, requesting the transport fails with one line that says how
        to install it.
        """
        self.patch(sys, "modules", {**sys.modules, "iroh": None})
        error = self.assertRaises(UsageError, IrohTransport, Clock(), PeerKey.from_seed(bytes(32)))
        self.assertEqual(
            str(error),
            f"the iroh transport needs the iroh package: {iroh_bindings.HOW_TO_INSTALL}",
        )

    def test_folder_of_that_name(self) -> None:
        """
        A folder C{iroh} on Python's module path is not the package.
        """
        self.patch(sys, "modules", {**sys.modules, "iroh": ModuleType("iroh")})
        self.assertEqual(unavailable_reason(), "")

    def test_another_version_of_it(self) -> None:
        """
        A package without the names that dtt uses is refused before any is called.
        """
        module = ModuleType("iroh")
        module.__file__ = "iroh/__init__.py"
        vars(module).update(IrohError=Exception, EndpointBuilder=object)
        self.patch(sys, "modules", {**sys.modules, "iroh": module})
        error = self.assertRaises(UsageError, load_bindings)
        self.assertEqual(
            str(error),
            "the iroh transport needs the iroh package, and the version of the installed one "
            f"is not supported: {iroh_bindings.HOW_TO_INSTALL}",
        )

    def test_broken(self) -> None:
        """
        A package that can't be loaded, for example because its library is for another
        machine, is reported in one line.
        """

        def fail(name: str) -> None:
            raise OSError("libiroh_ffi.so: wrong ELF class\nsecond line")

        self.patch(importlib, "import_module", fail)
        error = self.assertRaises(UsageError, load_bindings)
        self.assertEqual(
            str(error),
            "the iroh transport needs the iroh package, and the installed one can't be loaded "
            f"(OSError: libiroh_ffi.so: wrong ELF class): {iroh_bindings.HOW_TO_INSTALL}",
        )

    def test_not_imported_before(self) -> None:
        """
        The modules of the transport can be imported without the package.
        """
        self.assertNotIn("iroh", vars(iroh_bindings))


class _Buffer(SimpleNamespace):
    """
    A buffer of the library.
    """


class CopyTests(SynchronousTestCase):
    """
    Bytes are passed to the library in one copy.
    """

    def test_same_bytes(self) -> None:
        """
        The replacement writes the same bytes at the same position as the loop.
        """
        memory = ctypes.create_string_buffer(64)

        class Builder:
            def __init__(self) -> None:
                self.rbuf = _Buffer(
                    len=3, capacity=64, data=ctypes.cast(memory, ctypes.POINTER(ctypes.c_char))
                )

            @contextmanager
            def _reserve(self, size: int) -> Iterator[None]:
                yield
                self.rbuf.len += size

            def write(self, value: bytes) -> None:
                raise AssertionError

        module = SimpleNamespace(iroh_ffi=SimpleNamespace(_UniffiRustBufferBuilder=Builder))
        iroh_bindings._copy_with_memmove(module)
        builder = Builder()
        for part in (b"hello", b"", bytearray(b" wor"), memoryview(b"ld\0!")):
            builder.write(part)  # type: ignore[arg-type]
        self.assertEqual(builder.rbuf.len, 16)
        self.assertEqual(memory.raw[:18], b"\0\0\0hello world\0!\0\0")

    def test_another_version(self) -> None:
        """
        Without the class to replace, nothing is changed.
        """
        for internals in (None, SimpleNamespace(), SimpleNamespace(_UniffiRustBufferBuilder=object)):
            iroh_bindings._copy_with_memmove(SimpleNamespace(iroh_ffi=internals))

    def test_real(self) -> None:
        """
        The real library receives the bytes.
        """
        if find_spec("iroh") is None:
            self.skipTest("iroh can't be imported (pip install 'distributed-topic-tracker[iroh]')")
        bindings: Any = load_bindings()
        seed = os.urandom(32)
        self.assertEqual(bindings.SecretKey.from_bytes(seed).to_bytes(), seed)
        converter = bindings.iroh_ffi._UniffiFfiConverterBytes
        for size in (0, 1, 16, 17, 100_000):
            data = os.urandom(size)
            self.assertEqual(converter.lift(converter.lower(data)), data)


class AddressTests(SynchronousTestCase):
    """
    Addresses in the library's notation.
    """

    def test_both_ways(self) -> None:
        """
        Addresses of both families are converted in both directions, with ports.
        """
        for text, pair in (
            ("192.0.2.1:80", ("192.0.2.1", 80)),
            ("[2001:db8::1]:65535", ("2001:db8::1", 65535)),
        ):
            self.assertEqual(split_address(text), pair)
            self.assertEqual(join_address(*pair), text)

    def test_scope(self) -> None:
        """
        The name of an interface is dropped.
        """
        self.assertEqual(split_address("[fe80::1%eth0]:7"), ("fe80::1", 7))

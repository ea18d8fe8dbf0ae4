"""
Checks of the arguments of public calls.  Pure.

Rule: a wrong argument raises an exception in the call, and the message names the argument, the expected value
and the type of the actual one: L{WrongType<dtt.errors.WrongType>} if the type is wrong,
L{UsageError<dtt.errors.UsageError>} if only the value is.  The content of an argument is
not shown: it may be a secret.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Sequence
from functools import partial
from typing import Any

from dtt.errors import UsageError, WrongType


def kind_of(value: object) -> str:
    """
    Return the type of C{value} as an error message names it, with the size of bytes and
    text.
    """
    if value is None:
        return "None"
    name = type(value).__name__
    return f"{name} of length {len(value)}" if isinstance(value, bytes | str) else name


def check_type(name: str, value: object, expected: type | tuple[type, ...], what: str) -> None:
    """
    Check the type of an argument.

    @param name: the argument.
    @param expected: the accepted types.
    @param what: the expected value, for the message, such as C{"bytes"}.
    @raise WrongType: it has another type.
    """
    if not isinstance(value, expected):
        raise WrongType(f"{name} must be {what}, not {kind_of(value)}")


def check_bytes(name: str, value: object) -> None:
    """
    Check that an argument is C{bytes}.

    @raise WrongType: it is not.
    """
    if isinstance(value, str):
        raise WrongType(f"{name} must be bytes, not str; encode it")
    check_type(name, value, bytes, "bytes")


def check_number(name: str, value: object) -> None:
    """
    Check that an argument is a number.

    @raise WrongType: it is not an C{int} or a C{float}.
    """
    _check_number(name, value, (int, float), "a number")


def check_integer(name: str, value: object) -> None:
    """
    Check that an argument is an integer.

    @raise WrongType: it is not an C{int}.
    """
    _check_number(name, value, int, "an integer")


def _check_number(name: str, value: object, expected: type | tuple[type, ...], what: str) -> None:
    if isinstance(value, bool):
        raise WrongType(f"{name} must be {what}, not bool")
    check_type(name, value, expected, what)


def check_seconds(name: str, value: float) -> None:
    """
    Check that an argument is a positive number of seconds.

    @raise WrongType: it is not an C{int} or a C{float}.
    @raise UsageError: it is zero, negative, infinite, or not a number.
    """
    check_number(name, value)
    if not 0 < value < math.inf:
        raise UsageError(f"{name} must be a positive number of seconds, not {value!r}")


def check_reactor(name: str, value: object) -> None:
    """
    Check that an argument has the methods of a clock.

    @raise WrongType: it has not.
    """
    check_methods(name, value, ("callLater", "seconds"), "a reactor")


def truth_of(function: str, answer: object) -> bool:
    """
    Return what a function of the application has answered.

    @param function: its name, for the message.
    @raise TypeError: the answer is neither C{True} nor C{False}.
    """
    if not isinstance(answer, bool):
        raise TypeError(f"{function} must return True or False, not {type(answer).__name__}")
    return answer


def check_id(name: str, value: object) -> None:
    """
    Check that an argument has the form of a peer id.

    @raise WrongType: it is not C{bytes}.
    @raise UsageError: it is not 32 bytes.
    """
    check_bytes(name, value)
    if isinstance(value, bytes) and len(value) != 32:
        raise UsageError(f"{name} must be a peer id of 32 bytes, not {kind_of(value)}")


def check_ids(name: str, values: Any) -> tuple[bytes, ...]:
    """
    Check that an argument is a sequence of peer ids, and return them.

    @raise WrongType: it is a single peer id or not a sequence, or an element is not C{bytes}.
    @raise UsageError: an element is not 32 bytes.
    """
    if isinstance(values, bytes | str) or not isinstance(values, Sequence | set | frozenset):
        raise WrongType(f"{name} must be a sequence of peer ids, not {kind_of(values)}")
    for number, each in enumerate(values):
        check_id(f"{name}[{number}]", each)
    return tuple(values)


def check_methods(name: str, value: object, methods: Sequence[str], what: str) -> None:
    """
    Check that an argument is an object with these methods.

    @param what: what it must be, for the message, such as C{"a Twisted factory"}.
    @raise WrongType: it is a class, or a method is missing.
    """
    if isinstance(value, type):
        raise WrongType(f"{name} must be {what}, not the class {value.__name__}")
    if not all(callable(getattr(value, method, None)) for method in methods):
        raise WrongType(f"{name} must be {what}, not {kind_of(value)}")


def check_function(name: str, value: object, optional: bool = False) -> None:
    """
    Check that an argument can be called, and returns its result at once.

    @param optional: whether it may be C{None}.
    @raise WrongType: it can't be called, or it is a coroutine function.
    """
    if optional and value is None:
        return
    if not callable(value):
        raise WrongType(f"{name} must be a function, not {kind_of(value)}")
    if is_async(value):
        raise WrongType(
            f"{name} is a coroutine function, which nobody would wait for; pass a plain function, "
            "which may start a coroutine with Deferred.fromCoroutine()"
        )


def is_async(value: Any) -> bool:
    """
    Return whether calling C{value} returns a coroutine or an asynchronous iterator.
    """
    if not inspect.isroutine(value) and not isinstance(value, partial):
        value = getattr(type(value), "__call__", value)  # noqa: B004 - it is known to be callable
    return inspect.iscoroutinefunction(value) or inspect.isasyncgenfunction(value)

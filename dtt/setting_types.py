"""
The types of settings, which are checked when an attrs class of settings is created, before the rules of each
setting.

Rule: a setting of a wrong type raises L{WrongType<dtt.errors.WrongType>}, which names the setting and the
expected type.  C{PublisherConfig(enabled="no")} thus does not count as true.
"""

from __future__ import annotations

import types
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args, get_origin, get_type_hints

from attrs import Attribute
from attrs.validators import and_

from dtt.errors import WrongType
from dtt.net.host_port import HostPort

#: The name of each scalar type in error messages.
_NAMES: dict[Any, str] = {
    bool: "True or False",
    int: "a whole number",
    float: "a number",
    str: "a string",
    Path: "a path",
}


#: The annotations of the classes of settings.
_hints: dict[type, dict[str, Any]] = {}


def shown(value: object) -> str:
    """
    Return C{value} for an error message, shortened.
    """
    try:
        text = repr(value)
    except ValueError:  # an integer with thousands of digits
        text = "a huge number"
    return text if len(text) <= 80 else f"{text[:77]}..."


def fits(hint: Any, value: object) -> bool:
    """
    Return whether C{value} has the type of an annotation: a scalar, an attrs class, a
    tuple, or one of these or C{None}.
    """
    if isinstance(hint, types.UnionType):
        return any(fits(each, value) for each in get_args(hint))
    if get_origin(hint) is tuple:
        kinds = get_args(hint)
        if not isinstance(value, tuple):
            return False
        if kinds[-1] is Ellipsis:
            return all(fits(kinds[0], each) for each in value)
        return len(value) == len(kinds) and all(map(fits, kinds, value))
    if hint is bool:
        return isinstance(value, bool)
    if hint in (int, float):
        return isinstance(value, int if hint is int else (int, float)) and not isinstance(value, bool)
    return isinstance(value, hint)


def _expected(hint: Any) -> str:
    """
    Return a description of the expected value of a setting.
    """
    if isinstance(hint, types.UnionType):
        return " or ".join(_expected(each) for each in get_args(hint))
    if hint is type(None):
        return "None"
    if hint == HostPort:
        return '("HOST", PORT)'
    if get_origin(hint) is tuple:
        kinds = get_args(hint)
        if kinds[-1] is Ellipsis:
            return f"a tuple whose elements are each {_expected(kinds[0])}"
        return f"a tuple of {' and '.join(map(_expected, kinds))}"
    if hint in _NAMES:
        return _NAMES[hint]
    return f"{'an' if hint.__name__[0] in 'AEIOU' else 'a'} {hint.__name__}"


def check_type(instance: Any, attribute: Attribute[Any], value: Any) -> None:
    """
    A validator: the value has the annotated type.

    @raise WrongType: it has not.
    """
    cls = type(instance)
    if cls not in _hints:
        _hints[cls] = get_type_hints(cls)
    hint = _hints[cls][attribute.name]
    if not fits(hint, value):
        raise WrongType(f"{attribute.name} must be {_expected(hint)}, not {shown(value)}")


def typed(cls: type, fields: list[Attribute[Any]]) -> list[Attribute[Any]]:
    """
    Let each attribute of a class check its type before anything else: the
    C{field_transformer} of the classes of settings.
    """

    def checked(validator: Callable[..., Any] | None) -> Callable[..., Any]:
        return check_type if validator is None else and_(check_type, validator)

    return [field.evolve(validator=checked(field.validator)) for field in fields]

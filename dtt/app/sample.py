"""
A configuration file with every setting as a comment, with its default.

It is generated from the classes in L{dtt.config} and their documentation, so it is complete.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from attrs import NOTHING, AttrsInstance, fields

from dtt.app.helptext import wrap
from dtt.config import Config
from dtt.net.host_port import HostPort

#: The width of the file in characters.
_WIDTH = 100


def described(cls: type[AttrsInstance]) -> dict[str, str]:
    """
    Return what the documentation of a class says about its fields, as plain text.
    """
    found: dict[str, str] = {}
    for part in re.split(r"\n\s*@ivar ", cls.__doc__ or "")[1:]:
        name, _, text = part.partition(":")
        text = " ".join(text.split("\n\n")[0].split()).replace("C{None}", "not set")
        if not text.startswith("C{"):
            text = text[:1].upper() + text[1:]
        found[name] = re.sub(r"[CLI]\{([^{}<>]*)(?:<[^<>]*>)?\}", r"\1", text)
    return found


def _is_host_port(value: object) -> bool:
    match value:
        case (str(), int()):
            return True
    return False


def _host_port(value: HostPort) -> str:
    host, port = value
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def as_toml(value: Any) -> str:
    """
    Return a value of a setting as TOML.
    """
    if isinstance(value, tuple | list) and not _is_host_port(value):
        return f"[{', '.join(map(as_toml, value))}]"
    if isinstance(value, tuple):
        return as_toml(_host_port((str(value[0]), int(value[1]))))
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return str(value)
    # TOML escapes as JSON does, except for DEL; it has no surrogates.
    return json.dumps(str(value), ensure_ascii=False).replace("\x7f", "\\u007f")


def _setting(name: str, value: Any, text: str) -> Iterator[str]:
    yield from (f"# {line}" for line in wrap(text, _WIDTH - 2))
    yield f"# {name} =" if value is None else f"# {name} = {as_toml(value)}"
    yield ""


def sample(state_dir: Path) -> str:
    """
    Return the text of a configuration file.

    @param state_dir: the state directory, the only setting that is not a comment.
    """
    lines = [
        "# dtt: the settings of dtt run, twistd dtt and dtt chat, each with its default as a comment.",
        '# To change a setting, remove the "#" in front of it. All times are in seconds.',
        "",
        f"state_dir = {as_toml(state_dir)}",
        "",
    ]
    config, texts = Config(), described(Config)
    tables: list[str] = []
    for field in fields(Config):
        value = getattr(config, field.name)
        if not hasattr(value, "__attrs_attrs__"):
            if field.name != "state_dir":
                lines += _setting(field.name, value, texts.get(field.name, ""))
            continue
        inner = described(type(value))
        tables += [f"[{field.name}]  # {texts.get(field.name, '')}".rstrip(), ""]
        for each in fields(type(value)):
            if each.default is not NOTHING:
                tables += _setting(each.name, getattr(value, each.name), inner.get(each.name, ""))
    lines += tables
    lines += [
        "# The topics to join. Tickets come from dtt new-topic.",
        "# [[topic]]",
        '# ticket_file = "/path/to/garden-party.ticket"',
        "",
        "# [[topic]]",
        '# name = "garden party"',
        '# secret_file = "/path/to/secret"',
        "",
    ]
    return "\n".join(lines)

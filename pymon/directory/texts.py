"""Checks of texts that users and nodes give, before they are used in a database."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from pymon.config import ConfigError, shown

_Value = TypeVar("_Value")


def findable(value: object) -> object:
    """Return a value for a search, "" if it is not printable ASCII. All stored names are, and a database refuses some
    other texts (NUL, lone surrogates).
    """
    text = str(value)
    return text if text.isascii() and text.isprintable() else ""


def checked(what: str, parse: Callable[[str], _Value], text: str) -> _Value:
    """Parse a text. what: its name for errors. Raises ConfigError with what was expected and the text."""
    try:
        return parse(text)
    except ValueError as error:
        raise ConfigError(f"{what}: expected {error}, got {shown(text)}") from None

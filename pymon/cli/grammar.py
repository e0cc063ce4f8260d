"""The words of the command line as data, from the tables of options and verbs: for completion and manual pages."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pymon.cli import COMMANDS
from pymon.cli.verbs import DATA_DIR, DIRECTORY, Verb
from pymon.config import BOOL, PATH, negated

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from pymon.config import Option

STANDARD_FLAGS = {"--help": "Show the flags and exit.", "--version": "Show the version and exit."}
"""Flags that every command with options has."""


@dataclass(frozen=True, slots=True)
class Command:
    """A command, or a verb of one.

    words: after ``pymon``. arguments: as in the usage line. options: of this one. following: words that may come next,
    with what they do.
    """

    words: tuple[str, ...]
    arguments: str
    help: str
    options: tuple[Option, ...]
    following: dict[str, str]

    def flags(self) -> dict[str, str]:
        """Return the flags with their help texts."""
        found: dict[str, str] = {}
        for option in self.options:
            if not option.file_only:
                found[f"--{option.name}"] = option.help
            if option.kind is BOOL:
                found[f"--{negated(option.name)[2:]}"] = f"The opposite of --{option.name}."
        return found | (STANDARD_FLAGS if self.options else {"--help": STANDARD_FLAGS["--help"]})

    def values(self) -> dict[str, tuple[str, ...] | None]:
        """Return what may follow each flag that has a value: words, () for anything, None for the name of a file."""
        return {
            f"--{option.name}": None if option.kind is PATH else tuple(map(str, option.choices))
            for option in self.options
            if option.kind is not BOOL and not option.file_only
        }


def commands() -> Iterator[Command]:
    """Yield the commands with their verbs, first ``pymon`` itself.

    A command whose modules are not installed here is without options and verbs.
    """
    yield Command((), "", "", (), {name: help for name, (_, help) in COMMANDS.items()})
    for name, (module_name, help) in COMMANDS.items():
        try:
            module = importlib.import_module(module_name)
        except ModuleNotFoundError:
            yield Command((name,), "", help, (), {})
            continue
        verbs: Sequence[Verb] = getattr(module, "VERBS", ())
        if verbs:
            yield Command((name,), "", help, (), {verb.name: verb.help for verb in verbs})
            yield from _verbs((name,), verbs)
        else:
            arguments: str = getattr(module, "ARGUMENTS", "")
            following = dict(getattr(module, "FOLLOWING", {}))
            yield Command((name,), arguments, help, module.option_table(), following)


def _verbs(words: tuple[str, ...], verbs: Sequence[Verb]) -> Iterator[Command]:
    for verb in verbs:
        own = (*words, verb.name)
        if verb.run is None:
            yield Command(own, "", verb.help, (), {one.name: one.help for one in verb.verbs})
            yield from _verbs(own, verb.verbs)
        else:
            yield Command(own, verb.arguments, verb.help, (*verb.options, DATA_DIR, DIRECTORY), {})

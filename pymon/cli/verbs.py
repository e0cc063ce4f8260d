"""Commands that administer the directory: a verb, its arguments, its flags."""

from __future__ import annotations

import os
import sys
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pymon
from pymon.config import BOOL, PATH, STR, ConfigError, Kind, Option, Settings, load, nearest, shown
from pymon.directory import model
from pymon.directory.data_dir import AUTHORITY_FOLDER, DIRECTORY_FILE, default_data_dir
from pymon.directory.directory import Directory, open_directory
from pymon.directory.model import Account, DirectoryError, Snapshot

MAX_FILE_BYTES = 1 << 16
"""What a key's or a certificate's file may hold."""

JSON = Option("json", BOOL, False, "Print JSON instead of a table.")
_DATA_DIR = Option(
    "data-dir",
    PATH,
    None,
    "Directory of the files. Default: /var/lib/pymon as root, pymon in $XDG_DATA_HOME or ~/.local/share else.",
)
_DIRECTORY = Option(
    "directory",
    STR,
    None,
    f"The directory: a path, sqlite:///PATH or postgresql://... Default: {DIRECTORY_FILE} in the data directory.",
)


def text_kind(metavar: str, parse: Callable[[str], Any]) -> Kind:
    """A kind that only flags and variables have."""
    return Kind(metavar, parse, parse)


LABEL = Option("label", text_kind("TEXT", model.parse_label), "", "What to call it in lists.")
UUID = text_kind("UUID", model.parse_uuid)


@dataclass(frozen=True, slots=True)
class Call:
    """One run of a verb: its arguments and options."""

    arguments: tuple[str, ...]
    settings: Settings

    @property
    def data_dir(self) -> Path:
        """Where the files are."""
        given: Path | None = self.settings["data-dir"]
        return given or default_data_dir(os.environ, os.geteuid())

    @property
    def authority_dir(self) -> Path:
        """Where the authority's files are."""
        return self.data_dir / AUTHORITY_FOLDER

    def open(self, *, create: bool = False) -> Directory:
        """The directory. With `create` it is made where there is none, and so is the data directory."""
        url: str | None = self.settings["directory"]
        if url is None:
            if create:
                self.data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
            url = str(self.data_dir / DIRECTORY_FILE)
        return open_directory(url, create=create)

    def snapshot(self) -> Snapshot:
        """What is in the directory now."""
        with self.open() as directory:
            return directory.snapshot()


@dataclass(frozen=True, slots=True)
class Verb:
    """A verb of a command. arguments: as the usage shows them, ``[X]`` may be left out, ``[X ...]`` is any number."""

    name: str
    arguments: str
    help: str
    run: Callable[[Call], int]
    options: tuple[Option, ...] = ()

    def usage(self, command: str) -> str:
        """How it is called, without its flags."""
        return " ".join(filter(None, ["pymon", command, self.name, self.arguments]))

    def check(self, command: str, arguments: Sequence[str]) -> None:
        """Raise ConfigError when there are too few or too many."""
        needed, _, optional = self.arguments.partition("[")
        least = len(needed.split())
        most = None if "..." in optional else least + bool(optional)
        if len(arguments) < least or (most is not None and len(arguments) > most):
            raise ConfigError(f"expected {self.usage(command)}, got {len(arguments)} arguments")


def run_verb(command: str, verbs: Sequence[Verb], argv: Sequence[str]) -> int:
    """Run the verb of a command line; the exit code."""
    table = {verb.name: verb for verb in verbs}
    word, *words = argv or [""]
    if word in ("-h", "--help", "help"):
        sys.stdout.write(_help(command, verbs))
        return 0
    if word not in table:
        got = f"{shown(word)}{nearest(word, table)}" if word else "nothing"
        raise ConfigError(f"{command}: expected one of {', '.join(table)}, got {got}")
    verb = table[word]
    options = (*verb.options, _DATA_DIR, _DIRECTORY)
    arguments, flags = _split(options, words)
    settings = load(
        options, flags, os.environ,
        program=verb.usage(command), description=verb.help, version=f"pymon {pymon.__version__}",
    )  # fmt: skip
    verb.check(command, arguments)
    return verb.run(Call(tuple(arguments), settings))


def _split(options: Sequence[Option], words: Sequence[str]) -> tuple[list[str], list[str]]:
    """The arguments and the flags with their values; after ``--`` there are only arguments."""
    valued = {f"--{option.name}" for option in options if option.kind is not BOOL}
    arguments: list[str] = []
    flags: list[str] = []
    rest = iter(words)
    for word in rest:
        if word == "--":
            arguments.extend(rest)
        elif word.startswith("-") and word != "-":
            flags.append(word)
            if word in valued:
                flags.extend(value for value in [next(rest, None)] if value is not None)
        else:
            arguments.append(word)
    return arguments, flags


def _help(command: str, verbs: Sequence[Verb]) -> str:
    usages = [" ".join(filter(None, [verb.name, verb.arguments])) for verb in verbs]
    width = max(map(len, usages)) + 2
    lines = [f"  {usage:<{width}}{verb.help}" for usage, verb in zip(usages, verbs, strict=True)]
    return "\n".join([f"usage: pymon {command} VERB [ARGUMENT ...] [FLAG ...]", "", *lines, ""])


def find_account(snapshot: Snapshot, text: str) -> Account:
    """The account of a name, in either case, or of a UUID. Raises DirectoryError."""
    wanted = text.lower()
    for account in snapshot.accounts.values():
        if wanted in (account.name.lower(), str(account.uuid)):
            return account
    raise DirectoryError(f"account {shown(text)}: there is none of that name")


def account_names(snapshot: Snapshot) -> dict[uuid.UUID, str]:
    """Names by UUID."""
    return {account.uuid: account.name for account in snapshot.accounts.values()}


def chosen_account(snapshot: Snapshot, arguments: Sequence[str]) -> uuid.UUID | None:
    """The account that a list is narrowed to, where one is given."""
    return find_account(snapshot, arguments[0]).uuid if arguments else None


def state(now: float, revoked_at: float | None, expires_at: float | None) -> str:
    """What a credential is good for."""
    if revoked_at is not None:
        return "revoked"
    return "expired" if expires_at is not None and expires_at <= now else "active"


def read_small(file: str) -> bytes:
    """The bytes of a file that a person gave. Raises ConfigError when it is too large, OSError when unreadable."""
    if "\0" in file:
        raise ConfigError(f"expected a file, got {shown(file)}")
    with Path(file).open("rb") as stream:
        data = stream.read(MAX_FILE_BYTES + 1)
    if len(data) > MAX_FILE_BYTES:
        raise ConfigError(f"{file}: expected at most {MAX_FILE_BYTES} bytes, got more")
    return data

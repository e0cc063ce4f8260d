"""Framework of the commands that administer the directory: each has verbs, with arguments and flags."""

from __future__ import annotations

import os
import sys
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pymon
from pymon.cli.site import Site, read_site
from pymon.config import BOOL, PATH, STR, ConfigError, Kind, Option, Settings, load, nearest, shown
from pymon.data_dir import default_data_dir
from pymon.directory import model
from pymon.directory.data_dir import AUTHORITY_FOLDER, DIRECTORY_FILE, MACHINES_FOLDER
from pymon.directory.directory import Directory, open_directory
from pymon.directory.model import Account, DirectoryError, Snapshot

MAX_FILE_BYTES = 1 << 16
"""The most bytes in the file of a key or certificate."""

JSON = Option("json", BOOL, False, "Print JSON instead of a table.")
DATA_DIR = Option(
    "data-dir",
    PATH,
    None,
    "Directory of the files. Default: /var/lib/pymon as root, pymon in $XDG_DATA_HOME or ~/.local/share else.",
)
DIRECTORY = Option(
    "directory",
    STR,
    None,
    f"The directory: a path, sqlite:///PATH or postgresql://... Default: {DIRECTORY_FILE} in the data directory.",
)


def text_kind(metavar: str, parse: Callable[[str], Any]) -> Kind:
    """Return an option kind that is parsed from text. It is for flags and variables, not for configuration files."""
    return Kind(metavar, parse, parse)


LABEL = Option("label", text_kind("TEXT", model.parse_label), "", "What to call it in lists.")
UUID = text_kind("UUID", model.parse_uuid)


@dataclass(frozen=True, slots=True)
class Call:
    """The arguments and settings with which a verb is called."""

    arguments: tuple[str, ...]
    settings: Settings

    @property
    def data_dir(self) -> Path:
        """The data directory, given or default. Raises ConfigError if there is no default."""
        given: Path | None = self.settings["data-dir"]
        return given or default_data_dir(os.environ, os.geteuid())

    @property
    def authority_dir(self) -> Path:
        """The directory with the files of the tenants' authority."""
        return self.data_dir / AUTHORITY_FOLDER

    @property
    def machines_dir(self) -> Path:
        """The directory with the files of the machines' authority."""
        return self.data_dir / MACHINES_FOLDER

    def site(self) -> Site | None:
        """Return what `pymon up` has written about this data directory; None without it, or if --directory is given."""
        return read_site(self.data_dir) if self.settings["directory"] is None else None

    @property
    def directory_url(self) -> str:
        """The path or URL of the directory, given or default. Raises ConfigError if there is no default."""
        given: str | None = self.settings["directory"]
        return given or str(self.data_dir / DIRECTORY_FILE)

    def open(self, *, create: bool = False) -> Directory:
        """Open the directory. With `create`, make it and the data directory if they do not exist.

        Raises DirectoryError, ConfigError or OSError.
        """
        if create and self.settings["directory"] is None:
            self.data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        return open_directory(self.directory_url, create=create)

    def snapshot(self) -> Snapshot:
        """Return the present content of the directory. Raises as `open` does."""
        with self.open() as directory:
            return directory.snapshot()


@dataclass(frozen=True, slots=True)
class Verb:
    """A verb of a command.

    arguments: as in the usage line. ``[X]`` is optional, ``[X ...]`` may be repeated.
    run: carries out the verb, and returns the exit code. verbs: without `run`, the verbs that follow this one.
    """

    name: str
    arguments: str
    help: str
    run: Callable[[Call], int] | None = None
    options: tuple[Option, ...] = ()
    verbs: tuple[Verb, ...] = ()

    def usage(self, command: str) -> str:
        """Return the usage line, without flags."""
        return " ".join(filter(None, ["pymon", command, self.name, self.arguments]))

    def check(self, command: str, arguments: Sequence[str]) -> None:
        """Raise ConfigError if there are too few or too many arguments."""
        needed, _, optional = self.arguments.partition("[")
        least = len(needed.split())
        most = None if "..." in optional else least + bool(optional)
        if len(arguments) < least or (most is not None and len(arguments) > most):
            raise ConfigError(f"expected {self.usage(command)}, got {len(arguments)} arguments")


def run_verb(command: str, verbs: Sequence[Verb], argv: Sequence[str]) -> int:
    """Run the verb that a command line names. Return the exit code. Raises ConfigError for wrong usage."""
    table = {verb.name: verb for verb in verbs}
    word, *words = argv or [""]
    if word in ("-h", "--help", "help"):
        sys.stdout.write(_help(command, verbs))
        return 0
    if word not in table:
        got = f"{shown(word)}{nearest(word, table)}" if word else "nothing"
        raise ConfigError(f"{command}: expected one of {', '.join(table)}, got {got}")
    verb = table[word]
    if verb.run is None:
        return run_verb(f"{command} {word}", verb.verbs, words)
    options = (*verb.options, DATA_DIR, DIRECTORY)
    arguments, flags = _split(options, words)
    settings = load(
        options, flags, os.environ,
        program=verb.usage(command), description=verb.help, version=f"pymon {pymon.__version__}",
    )  # fmt: skip
    verb.check(command, arguments)
    return verb.run(Call(tuple(arguments), settings))


def _split(options: Sequence[Option], words: Sequence[str]) -> tuple[list[str], list[str]]:
    """Split words into arguments, and flags with their values. All words after ``--`` are arguments."""
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
    """Return the account with a name, in any case, or a UUID. Raises DirectoryError if there is none."""
    wanted = text.lower()
    for account in snapshot.accounts.values():
        if wanted in (account.name.lower(), str(account.uuid)):
            return account
    raise DirectoryError(f"account {shown(text)}: not found")


def account_names(snapshot: Snapshot) -> dict[uuid.UUID, str]:
    """Return the names of all accounts, by UUID."""
    return {account.uuid: account.name for account in snapshot.accounts.values()}


def chosen_account(snapshot: Snapshot, arguments: Sequence[str]) -> uuid.UUID | None:
    """Return the UUID of the account in the first argument, or None without arguments. Raises DirectoryError."""
    return find_account(snapshot, arguments[0]).uuid if arguments else None


def state(now: float, revoked_at: float | None, expires_at: float | None) -> str:
    """Return the state of a credential: revoked, expired or active. All times are in seconds since the epoch."""
    if revoked_at is not None:
        return "revoked"
    return "expired" if expires_at is not None and expires_at <= now else "active"


def read_small(file: str) -> bytes:
    """Return the content of a file. Raises ConfigError if it has over `MAX_FILE_BYTES`, OSError if it is unreadable."""
    if "\0" in file:
        raise ConfigError(f"expected a file, got {shown(file)}")
    with Path(file).open("rb") as stream:
        data = stream.read(MAX_FILE_BYTES + 1)
    if len(data) > MAX_FILE_BYTES:
        raise ConfigError(f"{file}: expected at most {MAX_FILE_BYTES} bytes, got more")
    return data

r"""Options of a command. One table defines its flags, environment variables, YAML keys and help.

The name of an option is its flag without dashes (``web.listen-address``). Its variable is ``PYMON_WEB_LISTEN_ADDRESS``.
An empty variable counts as not set. Items of a list are separated by commas (``\,`` is a literal comma). In the file of
``--config.file``, the key is nested at its dots (``web: {listen-address: [...]}``) or written with dots, fully or
partly. Flags override variables, variables override the file, and the file overrides defaults. A list comes from one of
them; lists are not merged.
"""

from __future__ import annotations

import argparse
import difflib
import logging
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, NoReturn, ParamSpec, get_args

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

_log = logging.getLogger(__name__)

MAX_FILE_BYTES = 1 << 20
"""A larger configuration file is an error."""


class ConfigError(Exception):
    """The configuration is not valid. The text is one line: the place, the key, what was expected, what was found."""

    def __init__(self, message: str) -> None:
        super().__init__(" ".join(message.split()))


# --- values ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Address:
    """An address to listen on. host: a name or a numeric address without brackets, "" for all addresses."""

    host: str
    port: int

    def __str__(self) -> str:
        """Return the text that a flag takes."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class UnixAddress:
    """A Unix socket to listen on."""

    path: Path

    def __str__(self) -> str:
        """Return the text that a flag takes."""
        return f"{_UNIX}{self.path}"


Listen = Address | UnixAddress


@dataclass(frozen=True, slots=True)
class Kind:
    """A type of option.

    metavar: the placeholder of the value in the help. parse: converts the text of a flag or a variable. from_yaml:
    converts a YAML value. Both raise ValueError whose text is what was expected.
    """

    metavar: str
    parse: Callable[[str], Any]
    from_yaml: Callable[[Any], Any]


def shown(value: object) -> str:
    """Return a value for an error text: at most 60 characters of ASCII on one line."""
    text = ascii(value)
    return text if len(text) <= 60 else text[:57] + "..."  # noqa: PLR2004


def _scalar(parse: Callable[[str], Any], expected: str) -> Callable[[Any], Any]:
    """Return the `from_yaml` of a kind whose YAML values are strings."""

    def from_yaml(value: Any) -> Any:
        if not isinstance(value, str):
            raise ValueError(expected)  # noqa: TRY004  # a kind may raise only ValueError
        return parse(value)

    return from_yaml


def _text(text: str) -> str:
    if not text:
        raise ValueError("a string that is not empty")
    return text


def _int(text: str) -> int:
    if not re.fullmatch(r"[+-]?[0-9]{1,18}", text):
        raise ValueError("an integer")
    return int(text)


def _int_yaml(value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise ValueError("an integer")  # noqa: TRY004
    return value


_TRUE = frozenset(("1", "true", "yes", "on"))
_FALSE = frozenset(("0", "false", "no", "off"))


def _bool(text: str) -> bool:
    word = text.lower()
    if word not in _TRUE | _FALSE:
        raise ValueError("true or false")
    return word in _TRUE


def _bool_yaml(value: Any) -> bool:
    if not isinstance(value, bool):
        raise ValueError("true or false")  # noqa: TRY004
    return value


_DURATION_UNITS = {"y": 31536000.0, "w": 604800.0, "d": 86400.0, "h": 3600.0, "m": 60.0, "s": 1.0, "ms": 0.001}
_DURATION = re.compile(r"(?:([0-9]{1,15}(?:\.[0-9]{1,9})?)(ms|[ywdhms]))")
_DURATION_EXPECTED = "a duration such as 10s, 1m or 1h30m"


def parse_seconds(text: str) -> float:
    """Return the seconds of a duration in Prometheus's notation (``1h30m``, ``250ms``). ``0`` needs no unit.

    Raises ValueError whose text is what was expected.
    """
    if text == "0":
        return 0.0
    parts = _DURATION.findall(text)
    units = [_DURATION_UNITS[unit] for _, unit in parts]
    whole = "".join(number + unit for number, unit in parts) == text
    if not parts or not whole or any(later >= earlier for earlier, later in pairwise(units)):
        raise ValueError(_DURATION_EXPECTED)
    return math.fsum(float(number) * _DURATION_UNITS[unit] for number, unit in parts)


def _seconds_yaml(value: Any) -> float:
    if value == 0 and not isinstance(value, bool):
        return 0.0
    if not isinstance(value, str):
        raise ValueError(_DURATION_EXPECTED)  # noqa: TRY004
    return parse_seconds(value)


_ADDRESS = re.compile(r"(?:\[([0-9A-Fa-f:.]+(?:%[\w.-]+)?)\]|([A-Za-z0-9._-]*)):([0-9]{1,5})")
_ADDRESS_EXPECTED = "HOST:PORT, [IPV6]:PORT or :PORT"
_MAX_PORT = 65535


def parse_address(text: str) -> Address:
    """Parse ``host:port``, ``[v6]:port`` or ``:port``. With port 0 the kernel chooses one. Raises ValueError."""
    match = _ADDRESS.fullmatch(text)
    if not match or int(match[3]) > _MAX_PORT:
        raise ValueError(_ADDRESS_EXPECTED)
    return Address(match[1] or match[2] or "", int(match[3]))


_UNIX = "unix:"
_LISTEN_EXPECTED = f"HOST:PORT, [IPV6]:PORT, :PORT or {_UNIX}/PATH"


def parse_listen(text: str) -> Listen:
    """Parse ``unix:/path`` or the text of an `Address`. Raises ValueError whose text is what was expected."""
    path = text.removeprefix(_UNIX)
    if path != text and path.startswith("/") and "\0" not in path:
        return UnixAddress(Path(path))
    try:
        return parse_address(text)
    except ValueError:
        raise ValueError(_LISTEN_EXPECTED) from None


def _regex(text: str) -> re.Pattern[str]:
    try:
        return re.compile(text)
    except (re.error, RecursionError, OverflowError) as error:
        raise ValueError(f"a regular expression ({error})") from None


def _path(text: str) -> Path:
    if not text or "\0" in text:
        raise ValueError("a path")
    return Path(text)


def _mapping_yaml(value: Any) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise ValueError("a mapping")  # noqa: TRY004
    return value


def _file_only(_text: str) -> NoReturn:
    raise ValueError("a key of the configuration file")


def text_kind(parse: Callable[[str], Any]) -> Kind:
    """The kind of an option that is written as a string and has the value that `parse` returns."""

    def whole(text: str) -> Any:
        return parse(_text(text))

    return Kind("TEXT", whole, _scalar(whole, "a string"))


STR = text_kind(str)
INT = Kind("N", _int, _int_yaml)
BOOL = Kind("", _bool, _bool_yaml)
SECONDS = Kind("DURATION", parse_seconds, _seconds_yaml)
ADDRESS = Kind("ADDRESS", parse_address, _scalar(parse_address, _ADDRESS_EXPECTED))
LISTEN = Kind("ADDRESS", parse_listen, _scalar(parse_listen, _LISTEN_EXPECTED))
REGEX = Kind("REGEX", _regex, _scalar(_regex, "a regular expression"))
PATH = Kind("PATH", _path, _scalar(_path, "a path"))
MAPPING = Kind("", _file_only, _mapping_yaml)
"""A YAML mapping with string keys. It can only be given in the file."""


# --- the table ---------------------------------------------------------------------------------


_Row = ParamSpec("_Row")


@dataclass(frozen=True, slots=True)
class Option:
    """One row of an option table.

    name: the flag without the leading dashes. default: a value of the kind, a tuple of them if repeatable. choices: the
    allowed values, () for all. check: called with each value; raises ValueError whose text is what was expected.
    """

    name: str
    kind: Kind
    default: Any
    help: str
    repeatable: bool = False
    choices: tuple[Any, ...] = ()
    check: Callable[[Any], None] | None = None

    @property
    def variable(self) -> str:
        """The name of the environment variable."""
        return "PYMON_" + self.name.upper().replace(".", "_").replace("-", "_")

    @property
    def file_only(self) -> bool:
        """Whether the option can only be given in the file."""
        return self.kind is MAPPING

    def _accept(self, convert: Callable[[Any], Any], raw: Any, where: str) -> Any:
        try:
            value = convert(raw)
            if self.choices and value not in self.choices:
                raise ValueError(f"one of {', '.join(map(str, self.choices))}")  # noqa: TRY301
            if self.check:
                self.check(value)
        except ValueError as error:
            raise ConfigError(f"{where}: expected {error}, got {shown(raw)}") from None
        return value

    def from_flag(self, raw: list[str]) -> Any:
        """Convert the texts given to the flag. If the option is not repeatable, the last one counts."""
        values = tuple(self._accept(self.kind.parse, text, f"--{self.name}") for text in raw)
        return values if self.repeatable else values[-1]

    def from_variable(self, raw: str) -> Any:
        """Convert the text of the environment variable."""
        if not self.repeatable:
            return self._accept(self.kind.parse, raw, self.variable)
        texts = (text.replace("\\,", ",").strip() for text in re.split(r"(?<!\\),", raw))
        return tuple(self._accept(self.kind.parse, text, self.variable) for text in texts)

    def from_yaml(self, raw: Any, file: Path) -> Any:
        """Convert a YAML value. The value of a repeatable option may be a single item without a list."""
        where = f"{file}: {self.name}"
        if not self.repeatable:
            return self._accept(self.kind.from_yaml, raw, where)
        values = raw if isinstance(raw, list) else [raw]
        return tuple(self._accept(self.kind.from_yaml, value, where) for value in values)


def setting(option: Option) -> Any:
    """The default of a dataclass field that holds the value of an option."""
    return field(default=option.default, metadata={_OPTION: option})


def _as_field(make: Callable[_Row, Option]) -> Callable[_Row, Any]:
    return lambda *row, **more: setting(make(*row, **more))


option = _as_field(Option)
"""`setting` of an `Option` with these arguments."""


def options_of(kind: type) -> tuple[Option, ...]:
    """The options of a dataclass's fields, in their order."""
    return tuple(one.metadata[_OPTION] for one in fields(kind) if _OPTION in one.metadata)


def values_of(kind: type, settings: Settings) -> dict[str, Any]:
    """The values of those fields in settings of a table that has their options."""
    return {one.name: settings[one.metadata[_OPTION].name] for one in fields(kind) if _OPTION in one.metadata}


_OPTION = "option"

CONFIG_FILE = Option("config.file", PATH, None, "YAML file with any of these options; flags and variables win over it.")
"""Part of the table of each command that takes a file. It can be a flag or a variable, but not a key of the file."""

LogLevel = Literal["debug", "info", "warn", "error"]
LogFormat = Literal["logfmt", "json"]
LOG_LEVEL = Option("log.level", STR, "info", "Least level that is logged.", choices=get_args(LogLevel))
LOG_FORMAT = Option("log.format", STR, "logfmt", "Form of log lines.", choices=get_args(LogFormat))


@dataclass(frozen=True, slots=True)
class Settings:
    """The values of all options of a table. given: option name -> origin, for values that are not defaults."""

    values: Mapping[str, Any]
    given: Mapping[str, str] = field(default_factory=dict)

    def __getitem__(self, name: str) -> Any:
        return self.values[name]


def nearest(name: str, known: Iterable[str]) -> str:
    """Return the end of an error text about an unknown name: a suggestion of similar known names, or ""."""
    close = difflib.get_close_matches(name, sorted(known), n=3, cutoff=0.6)
    return f", did you mean {' or '.join(close)}?" if close else ""


# --- the file ----------------------------------------------------------------------------------


def read_file(file: Path, max_bytes: int = MAX_FILE_BYTES, name: str = "") -> bytes:
    """Return the bytes of a file. Raises ConfigError if it is unreadable or above `max_bytes`.

    name: for error texts, "" for the path.
    """
    name = name or str(file)
    try:
        with file.open("rb") as stream:
            data = stream.read(max_bytes + 1)
    except OSError as error:
        raise ConfigError(f"{name}: cannot be read: {error.strerror}") from None
    if len(data) > max_bytes:
        raise ConfigError(f"{name}: expected at most {max_bytes} bytes, got more")
    return data


def parse_yaml(data: bytes, file: Path) -> dict[str, Any]:
    """Parse a YAML document that is a mapping. An empty document gives {}. Raises ConfigError.

    file: the name for error texts.
    """
    document = load_yaml(data, file)
    if document is None:
        return {}
    if not isinstance(document, dict):
        raise ConfigError(f"{file}: expected a mapping of options, got {shown(document)}")
    return document


def load_yaml(data: bytes, file: Path) -> Any:
    """Parse a YAML document and return its value, None if it is empty. Raises ConfigError."""
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ConfigError(f"{file}: expected UTF-8, got byte 0x{data[error.start]:02x} at {error.start}") from None
    # The parser takes longer to import than most commands take without it.
    from pymon.yaml_document import YamlError, yaml_value  # noqa: PLC0415

    try:
        return yaml_value(text)
    except YamlError as error:
        raise ConfigError(f"{file}: {error}") from None


def _flatten(
    node: Mapping[str, Any], prefix: str, names: set[str], file: Path, found: dict[str, Any], errors: dict[str, str]
) -> None:
    for key, value in node.items():
        name = prefix + key
        group = any(known.startswith(name + ".") for known in names)
        if group and (value is None or (isinstance(value, dict))):
            _flatten(value or {}, name + ".", names, file, found, errors)
        elif name not in names:
            kind = f": expected a mapping, got {shown(value)}" if group else f": unknown key{nearest(name, names)}"
            errors[name] = f"{file}: {name}{kind}"
        elif name in found:
            errors[name] = f"{file}: {name}: given twice"
        else:
            found[name] = value


class FileValues(NamedTuple):
    """The content of a configuration file. values: option name -> valid value. errors: key -> error, one line each."""

    values: dict[str, Any]
    errors: dict[str, str]

    def unknown(self, options: Sequence[Option]) -> int:
        """Return the number of keys that are not options of the table."""
        return len(self.errors.keys() - {option.name for option in options})


def file_values(options: Sequence[Option], document: Mapping[str, Any], file: Path) -> FileValues:
    """Convert the parsed document of a configuration file. Errors are in the result; nothing is raised."""
    table = {option.name: option for option in options if option is not CONFIG_FILE}
    found: dict[str, Any] = {}
    values: dict[str, Any] = {}
    errors: dict[str, str] = {}
    _flatten(document, "", set(table), file, found, errors)
    for name, raw in found.items():
        try:
            values[name] = table[name].from_yaml(raw, file)
        except ConfigError as error:
            errors.setdefault(name, str(error))
    return FileValues(values, errors)


def load_file(options: Sequence[Option], file: Path) -> dict[str, Any]:
    """Return option name -> value from a configuration file. Raises ConfigError about the first wrong key."""
    values, errors = file_values(options, parse_yaml(read_file(file), file), file)
    for error in errors.values():
        raise ConfigError(error)
    return values


# --- variables and flags -----------------------------------------------------------------------


_KUBERNETES_PORT = re.compile(r"(?:tcp|udp|sctp)://[^/]+:[0-9]+")
_SHOWN_VARIABLES = 5


def load_environment(options: Sequence[Option], environ: Mapping[str, str]) -> dict[str, Any]:
    """Return option name -> value from the ``PYMON_`` variables. Unknown variables are logged in one warning.

    Kubernetes sets variables such as ``PYMON_SERVICE_HOST`` and ``PYMON_PORT`` in the pods of a namespace that has a
    Service named pymon. A value in the form of such a port is ignored, even if the variable has the name of an option.
    """
    table = {option.variable: option for option in options if not option.file_only}
    values = {}
    unknown = []
    for variable, raw in sorted(environ.items()):
        if not variable.startswith("PYMON_") or not raw:
            continue
        option = table.get(variable)
        if option is None or _KUBERNETES_PORT.fullmatch(raw):
            unknown.append(shown(variable)[1:-1] + nearest(variable, table))
        else:
            values[option.name] = option.from_variable(raw)
    if unknown:
        more = f"; and {len(unknown) - _SHOWN_VARIABLES} more" if len(unknown) > _SHOWN_VARIABLES else ""
        _log.warning("unknown environment variables are ignored: %s%s", "; ".join(unknown[:_SHOWN_VARIABLES]), more)
    return values


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise ConfigError(message.removeprefix("argument "))


class _Formatter(argparse.HelpFormatter):
    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=8, width=110)


def _default_text(option: Option) -> str:
    if option.default in (None, (), "") or option.kind is BOOL:
        return ""
    values = option.default if option.repeatable else (option.default,)
    return f" Default: {', '.join(map(str, values))}."


def _other_ways(options: Sequence[Option], flag: str) -> str:
    """Return the part of the help about environment variables, and about the file of a command that reads one."""
    if CONFIG_FILE not in options:
        first = options[0]
        return (
            f"Each {flag} is also an environment variable (--{first.name} is {first.variable}). "
            "Flags win over variables."
        )
    return (
        f"Each {flag} is also a key of the file (web.listen-address is web: {{listen-address: ...}}) and an "
        "environment variable (PYMON_WEB_LISTEN_ADDRESS, lists separated by commas). "
        "Flags win over variables, variables over the file."
    )


def _parser(
    options: Sequence[Option], program: str, description: str, version: str, own: Sequence[Option] | None
) -> _Parser:
    """Return the parser of the command line. A boolean option has two flags with one `dest`; the last one counts.

    own: further options of a command that uses the agent's table, None for other commands. They come first in the help.
    """
    parser = _Parser(
        prog=program, description=description, usage=f"{program} [FLAG ...]", allow_abbrev=False, add_help=False,
        formatter_class=_Formatter, argument_default=argparse.SUPPRESS,
        epilog=_other_ways(options, "flag" if own is None else "agent flag"),
    )  # fmt: skip
    parser.add_argument("-h", "--help", action="help", help="Show this text and exit.")
    parser.add_argument("--version", action="version", version=version, help="Show the version and exit.")
    add_argument = parser.add_argument
    for option in (*(own or ()), *options):
        if own is not None and option is options[0]:
            add_argument = parser.add_argument_group("agent flags").add_argument
        text = (option.help + _default_text(option) + (" Repeatable." if option.repeatable else "")).replace("%", "%%")
        if option.kind is BOOL:
            on = " On by default." if option.default else ""
            for flag, const in ((f"--{option.name}", "true"), (negated(option.name), "false")):
                add_argument(
                    flag, dest=option.name, action="append_const", const=const,
                    help=text + on if const == "true" else argparse.SUPPRESS,
                )  # fmt: skip
        elif not option.file_only:
            metavar = "{" + ",".join(option.choices) + "}" if option.choices else option.kind.metavar
            add_argument(f"--{option.name}", dest=option.name, action="append", metavar=metavar, help=text)
    return parser


def negated(name: str) -> str:
    """Return the flag that switches a boolean option off."""
    return f"--no-{name}"


def load_flags(
    options: Sequence[Option],
    argv: Sequence[str],
    program: str,
    description: str,
    version: str,
    own: Sequence[Option] | None = None,
) -> dict[str, Any]:
    """Return option name -> value from the command line. Raises ConfigError.

    ``--help`` and ``--version`` print and raise SystemExit(0).
    """
    parser = _parser(options, program, description, version, own)
    options = (*(own or ()), *options)
    found, rest = parser.parse_known_args(list(argv))
    for word in rest:
        flag = word.partition("=")[0]
        if flag.startswith("-") and flag != "--":
            known = {f"--{option.name}" for option in options if not option.file_only}
            known |= {negated(option.name) for option in options if option.kind is BOOL}
            raise ConfigError(f"{ascii(flag)[1:-1]}: unknown flag{nearest(flag, known)}")
    if rest:
        raise ConfigError(f"{shown(rest[0])}: expected a flag, {program} takes no arguments")
    table = {option.name: option for option in options}
    return {name: table[name].from_flag(raw) for name, raw in vars(found).items()}


def load(
    options: Sequence[Option],
    argv: Sequence[str],
    environ: Mapping[str, str],
    *,
    program: str,
    description: str,
    version: str,
    own: Sequence[Option] | None = None,
) -> Settings:
    """Return the values of a table from flags, variables, the configuration file and defaults. Raises ConfigError.

    own: further options of a command that uses the agent's table, given by flags only. None for other commands.
    """
    flags = load_flags(options, argv, program, description, version, own)
    variables = load_environment(options, environ)
    file = flags.get(CONFIG_FILE.name) or variables.get(CONFIG_FILE.name)
    from_file = load_file(options, file) if file else {}
    values = {option.name: option.default for option in (*(own or ()), *options)} | from_file | variables | flags
    given = dict.fromkeys(from_file, str(file)) | dict.fromkeys(variables, "environment") | dict.fromkeys(flags, "flag")
    return Settings(values, given)

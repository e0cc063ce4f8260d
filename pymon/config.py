r"""Options of a command: one table gives its flags, its environment variables, its YAML keys and its help.

An option is named as its flag is spelled (``web.listen-address``). The variable is ``PYMON_WEB_LISTEN_ADDRESS``; an
empty one counts as not set, and a list is separated by commas (``\,`` is a comma). In the file ``--config.file``
names, the key is nested by its dots (``web: {listen-address: [...]}``) or dotted, wholly or partly. The flag wins
over the variable, the variable over the file, the file over the default; a list is taken whole from one of them.
"""

from __future__ import annotations

import argparse
import difflib
import math
import re
from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import yaml

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

MAX_FILE_BYTES = 1 << 20
"""A configuration file above this is an error."""


class ConfigError(Exception):
    """A configuration that cannot be used; the text is one line: where, which key, what was expected, what it is."""

    def __init__(self, message: str) -> None:
        super().__init__(" ".join(message.split()))


# --- values ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Address:
    """Where to listen: `host` is a name or a numeric address without brackets, empty for every address."""

    host: str
    port: int

    def __str__(self) -> str:
        """As it is written in a flag."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class UnixAddress:
    """A socket in the file system to listen on."""

    path: Path

    def __str__(self) -> str:
        """As it is written in a flag."""
        return f"{_UNIX}{self.path}"


Listen = Address | UnixAddress


@dataclass(frozen=True, slots=True)
class Kind:
    """A type of option.

    parse: from the text of a flag or a variable; from_yaml: from a YAML value. Both raise ValueError with what was
    expected.
    """

    metavar: str
    parse: Callable[[str], Any]
    from_yaml: Callable[[Any], Any]


def shown(value: object) -> str:
    """A value for an error text: short, on one line."""
    text = ascii(value)
    return text if len(text) <= 60 else text[:57] + "..."  # noqa: PLR2004


def _scalar(parse: Callable[[str], Any], expected: str) -> Callable[[Any], Any]:
    """The YAML side of a kind that is written as a string."""

    def from_yaml(value: Any) -> Any:
        if not isinstance(value, str):
            raise ValueError(expected)  # noqa: TRY004  # the one error a kind may raise
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
    """Seconds of a duration as Prometheus writes it (``1h30m``, ``250ms``); ``0`` needs no unit."""
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
    """``host:port``, ``[v6]:port`` or ``:port``; port 0 lets the kernel choose."""
    match = _ADDRESS.fullmatch(text)
    if not match or int(match[3]) > _MAX_PORT:
        raise ValueError(_ADDRESS_EXPECTED)
    return Address(match[1] or match[2] or "", int(match[3]))


_UNIX = "unix:"
_LISTEN_EXPECTED = f"HOST:PORT, [IPV6]:PORT, :PORT or {_UNIX}/PATH"


def parse_listen(text: str) -> Listen:
    """What `parse_address` takes, or ``unix:/path``."""
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


STR = Kind("TEXT", _text, _scalar(_text, "a string"))
INT = Kind("N", _int, _int_yaml)
BOOL = Kind("", _bool, _bool_yaml)
SECONDS = Kind("DURATION", parse_seconds, _seconds_yaml)
ADDRESS = Kind("ADDRESS", parse_address, _scalar(parse_address, _ADDRESS_EXPECTED))
LISTEN = Kind("ADDRESS", parse_listen, _scalar(parse_listen, _LISTEN_EXPECTED))
REGEX = Kind("REGEX", _regex, _scalar(_regex, "a regular expression"))
PATH = Kind("PATH", _path, _scalar(_path, "a path"))
MAPPING = Kind("", _file_only, _mapping_yaml)
"""A raw YAML mapping with string keys; only in the file."""


# --- the table ---------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Option:
    """One row of an option table.

    name: as the flag is spelled, without the dashes. default: a value of the kind, or a tuple of them when
    repeatable. choices: the values allowed. check: a last test of one value, raises ValueError with what was expected.
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
        """The environment variable."""
        return "PYMON_" + self.name.upper().replace(".", "_").replace("-", "_")

    @property
    def file_only(self) -> bool:
        """Whether only the file can say it."""
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
        """The value of the texts given to the flag."""
        values = tuple(self._accept(self.kind.parse, text, f"--{self.name}") for text in raw)
        return values if self.repeatable else values[-1]

    def from_variable(self, raw: str) -> Any:
        """The value of the text of the environment variable."""
        if not self.repeatable:
            return self._accept(self.kind.parse, raw, self.variable)
        texts = (text.replace("\\,", ",").strip() for text in re.split(r"(?<!\\),", raw))
        return tuple(self._accept(self.kind.parse, text, self.variable) for text in texts)

    def from_yaml(self, raw: Any, file: Path) -> Any:
        """The value of a YAML value; a repeatable one may stand without its list."""
        where = f"{file}: {self.name}"
        if not self.repeatable:
            return self._accept(self.kind.from_yaml, raw, where)
        values = raw if isinstance(raw, list) else [raw]
        return tuple(self._accept(self.kind.from_yaml, value, where) for value in values)


CONFIG_FILE = Option("config.file", PATH, None, "YAML file with any of these options; flags and variables win over it.")
"""Part of the table of each command that takes a file. A flag or a variable, not a key."""


@dataclass(frozen=True, slots=True)
class Settings:
    """Values of every option of a table. `given` says where those that are no defaults come from."""

    values: Mapping[str, Any]
    given: Mapping[str, str] = field(default_factory=dict)

    def __getitem__(self, name: str) -> Any:
        return self.values[name]


def nearest(name: str, known: Iterable[str]) -> str:
    """The tail of an error text about an unknown name: the known ones that look like it."""
    close = difflib.get_close_matches(name, sorted(known), n=3, cutoff=0.6)
    return f", did you mean {' or '.join(close)}?" if close else ""


# --- the file ----------------------------------------------------------------------------------


class _Loader(yaml.SafeLoader):
    """YAML 1.2's core schema (no dates, no base 60, no yes/no), no aliases, keys are unique strings."""

    yaml_implicit_resolvers: dict[str, Any] = {}  # noqa: RUF012  # PyYAML's own shape

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            event = self.peek_event()  # type: ignore[no-untyped-call]
            raise yaml.MarkedYAMLError(problem="aliases are not taken", problem_mark=event.start_mark)
        node: yaml.Node | None = super().compose_node(parent, index)
        return node

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        try:
            return super().construct_object(node, deep=deep)
        except (KeyError, ValueError):
            problem = f"not a value of its tag {node.tag.rpartition(':')[2]}"
            raise yaml.MarkedYAMLError(problem=problem, problem_mark=node.start_mark) from None

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:  # noqa: ARG002
        mapping: dict[Hashable, Any] = {}
        for key_node, value_node in node.value:
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, str):
                raise yaml.MarkedYAMLError(problem=f"{shown(key)}: a key is a string", problem_mark=key_node.start_mark)
            if key in mapping:
                raise yaml.MarkedYAMLError(problem=f"{key}: given twice", problem_mark=key_node.start_mark)
            mapping[key] = self.construct_object(value_node, deep=True)
        return mapping


for _tag, _pattern, _first in (
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("bool", r"true|True|TRUE|false|False|FALSE", list("tTfF")),
    ("int", r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+", list("-+0123456789")),
    ("float", r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?|[-+]?\.(?:inf|Inf)|\.(?:nan|NaN)",
     list("-+0123456789.")),
):  # fmt: skip
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(f"(?:{_pattern})$"), _first)


def _construct_int(loader: _Loader, node: yaml.ScalarNode) -> int:
    text = str(loader.construct_scalar(node))
    if len(text) > 64:  # noqa: PLR2004
        raise yaml.MarkedYAMLError(problem="an integer of more than 64 digits", problem_mark=node.start_mark)
    return int(text, 0) if text[:2] in ("0x", "0o") else int(text)


def _construct_mapping(loader: _Loader, node: yaml.MappingNode) -> dict[Hashable, Any]:
    return loader.construct_mapping(node)


_TAG = "tag:yaml.org,2002:"
_Loader.yaml_constructors = {
    tag: construct
    for tag, construct in yaml.SafeLoader.yaml_constructors.items()
    if tag in {None, *(_TAG + name for name in ("null", "bool", "float", "str", "seq"))}
} | {_TAG + "int": _construct_int, _TAG + "map": _construct_mapping}


def read_file(file: Path) -> bytes:
    """The bytes of a configuration file, or ConfigError when it cannot be read or is above `MAX_FILE_BYTES`."""
    try:
        with file.open("rb") as stream:
            data = stream.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise ConfigError(f"{file}: cannot be read: {error.strerror}") from None
    if len(data) > MAX_FILE_BYTES:
        raise ConfigError(f"{file}: expected at most {MAX_FILE_BYTES} bytes, got more")
    return data


def parse_yaml(data: bytes, file: Path) -> dict[str, Any]:
    """The mapping that a YAML document is; an empty document is an empty one. `file` is for error texts."""
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ConfigError(f"{file}: expected UTF-8, got byte 0x{data[error.start]:02x} at {error.start}") from None
    try:
        document = yaml.load(text, Loader=_Loader)  # noqa: S506  # a SafeLoader
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 0
        raise ConfigError(f"{file}: line {line}: {error.problem or error.context or 'not YAML'}") from None
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise ConfigError(f"{file}: line {line}: {error.reason}") from None
    except (RecursionError, ValueError, OverflowError) as error:
        reason = "nested too deeply" if isinstance(error, RecursionError) else str(error)
        raise ConfigError(f"{file}: {reason}") from None
    if document is None:
        return {}
    if not isinstance(document, dict):
        raise ConfigError(f"{file}: expected a mapping of options, got {shown(document)}")
    return document


def _flatten(node: Mapping[str, Any], prefix: str, names: set[str], file: Path, found: dict[str, Any]) -> None:
    for key, value in node.items():
        name = prefix + key
        group = any(known.startswith(name + ".") for known in names)
        if group and (value is None or (isinstance(value, dict))):
            _flatten(value or {}, name + ".", names, file, found)
        elif name not in names:
            kind = f": expected a mapping, got {shown(value)}" if group else f": unknown key{nearest(name, names)}"
            raise ConfigError(f"{file}: {name}{kind}")
        elif name in found:
            raise ConfigError(f"{file}: {name}: given twice")
        else:
            found[name] = value


def load_file(options: Sequence[Option], file: Path) -> dict[str, Any]:
    """The values a configuration file gives, by option name."""
    table = {option.name: option for option in options if option is not CONFIG_FILE}
    found: dict[str, Any] = {}
    _flatten(parse_yaml(read_file(file), file), "", set(table), file, found)
    return {name: table[name].from_yaml(raw, file) for name, raw in found.items()}


# --- variables and flags -----------------------------------------------------------------------


def load_environment(options: Sequence[Option], environ: Mapping[str, str]) -> dict[str, Any]:
    """The values the ``PYMON_`` variables give, by option name."""
    table = {option.variable: option for option in options if not option.file_only}
    values = {}
    for variable, raw in environ.items():
        if not variable.startswith("PYMON_") or not raw:
            continue
        option = table.get(variable)
        if option is None:
            raise ConfigError(f"{ascii(variable)[1:-1]}: unknown variable{nearest(variable, table)}")
        values[option.name] = option.from_variable(raw)
    return values


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise ConfigError(message.removeprefix("argument "))


class _Formatter(argparse.HelpFormatter):
    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=8, width=110)


def _default_text(option: Option) -> str:
    if option.default is None or option.default == () or option.kind is BOOL:
        return ""
    values = option.default if option.repeatable else (option.default,)
    return f" Default: {', '.join(map(str, values))}."


def _parser(options: Sequence[Option], program: str, description: str, version: str) -> _Parser:
    """The command line of a table; a pair of flags is one list in `dest`, the last of it wins."""
    parser = _Parser(
        prog=program, description=description, usage=f"{program} [FLAG ...]", allow_abbrev=False, add_help=False,
        formatter_class=_Formatter, argument_default=argparse.SUPPRESS,
        epilog="Each flag is also a key of the file (web.listen-address is web: {listen-address: ...}) and an "
        "environment variable (PYMON_WEB_LISTEN_ADDRESS, lists separated by commas). "
        "Flags win over variables, variables over the file.",
    )  # fmt: skip
    parser.add_argument("-h", "--help", action="help", help="Show this text and exit.")
    parser.add_argument("--version", action="version", version=version, help="Show the version and exit.")
    for option in options:
        text = (option.help + _default_text(option) + (" Repeatable." if option.repeatable else "")).replace("%", "%%")
        if option.kind is BOOL:
            on = " On by default." if option.default else ""
            for flag, const in ((f"--{option.name}", "true"), (negated(option.name), "false")):
                parser.add_argument(
                    flag, dest=option.name, action="append_const", const=const,
                    help=text + on if const == "true" else argparse.SUPPRESS,
                )  # fmt: skip
        elif not option.file_only:
            metavar = "{" + ",".join(option.choices) + "}" if option.choices else option.kind.metavar
            parser.add_argument(f"--{option.name}", dest=option.name, action="append", metavar=metavar, help=text)
    return parser


def negated(name: str) -> str:
    """The flag that switches a boolean option off."""
    return f"--no-{name}"


def load_flags(
    options: Sequence[Option], argv: Sequence[str], program: str, description: str, version: str
) -> dict[str, Any]:
    """The values the command line gives, by option name. ``--help`` and ``--version`` raise SystemExit(0)."""
    parser = _parser(options, program, description, version)
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
) -> Settings:
    """The values of a table from flags, variables, the file they name and the defaults. Raises ConfigError."""
    flags = load_flags(options, argv, program, description, version)
    variables = load_environment(options, environ)
    file = flags.get(CONFIG_FILE.name) or variables.get(CONFIG_FILE.name)
    from_file = load_file(options, file) if file else {}
    values = {option.name: option.default for option in options} | from_file | variables | flags
    given = dict.fromkeys(from_file, str(file)) | dict.fromkeys(variables, "environment") | dict.fromkeys(flags, "flag")
    return Settings(values, given)

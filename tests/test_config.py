"""Option tables: flags, variables, files, their precedence and their errors."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import pytest

from pymon.config import (
    ADDRESS,
    BOOL,
    CONFIG_FILE,
    INT,
    LISTEN,
    MAPPING,
    MAX_FILE_BYTES,
    PATH,
    REGEX,
    SECONDS,
    STR,
    Address,
    ConfigError,
    Option,
    Settings,
    UnixAddress,
    load,
    load_file,
    option,
    options_of,
    parse_address,
    parse_listen,
    parse_seconds,
    parse_yaml,
    setting,
    text_kind,
    values_of,
)  # fmt: skip

TABLE = (
    CONFIG_FILE,
    Option("web.listen-address", ADDRESS, (Address("127.0.0.1", 9164),), "Where to listen.", repeatable=True),
    Option("web.max-requests", INT, 40, "How many."),
    Option("scrape.timeout", SECONDS, 10.0, "How long, 100% sure."),
    Option("collector.cpu", BOOL, None, "CPU."),
    Option("collector.textfile", BOOL, None, "Files."),
    Option("collector.textfile.directory", PATH, None, "Where the files are."),
    Option("pattern", REGEX, (), "Which.", repeatable=True),
    Option("log.level", STR, "info", "Level.", choices=("debug", "info")),
    Option("owners", MAPPING, (), "Rules.", repeatable=True),
)


def settings(*argv: str, env: dict[str, str] | None = None) -> Settings:
    return load(TABLE, argv, env or {}, program="pymon test", description="A test.", version="pymon 1.2.3")


def error(*argv: str, env: dict[str, str] | None = None) -> str:
    with pytest.raises(ConfigError) as caught:
        settings(*argv, env=env)
    text = str(caught.value)
    assert "\n" not in text
    return text


def from_file(tmp_path: Path, text: str | bytes) -> Settings:
    file = tmp_path / "a.yml"
    file.write_bytes(text.encode() if isinstance(text, str) else text)
    return settings(f"--config.file={file}")


def file_error(tmp_path: Path, text: str | bytes) -> str:
    file = tmp_path / "a.yml"
    file.write_bytes(text.encode() if isinstance(text, str) else text)
    message = error(f"--config.file={file}")
    assert message.startswith(f"{file}: ")
    return message.removeprefix(f"{file}: ")


def test_defaults() -> None:
    got = settings()
    assert got["web.listen-address"] == (Address("127.0.0.1", 9164),)
    assert got["web.max-requests"] == 40
    assert got["collector.cpu"] is None
    assert got.given == {}


def test_flags() -> None:
    got = settings(
        "--web.listen-address=:1", "--web.listen-address", "[::1]:2", "--collector.cpu", "--scrape.timeout=1m30s",
        "--pattern=a,b", "--no-collector.textfile", "--collector.textfile.directory", "/x",
    )  # fmt: skip
    assert got["web.listen-address"] == (Address("", 1), Address("::1", 2))
    assert got["collector.cpu"] is True
    assert got["collector.textfile"] is False
    assert got["collector.textfile.directory"] == Path("/x")
    assert got["scrape.timeout"] == 90
    assert got["pattern"] == (re.compile("a,b"),)
    assert settings("--collector.cpu", "--no-collector.cpu")["collector.cpu"] is False
    assert settings("--web.max-requests=1", "--web.max-requests=2")["web.max-requests"] == 2


def test_precedence(tmp_path: Path) -> None:
    file = tmp_path / "a.yml"
    file.write_text("web: {max-requests: 1, listen-address: [':1', ':2']}\nlog.level: debug\ncollector: {cpu: true}\n")
    env = {"PYMON_CONFIG_FILE": str(file), "PYMON_WEB_MAX_REQUESTS": "2", "PYMON_WEB_LISTEN_ADDRESS": ":3, :4"}
    got = settings("--web.max-requests=3", env=env)
    assert got["web.max-requests"] == 3
    assert got["web.listen-address"] == (Address("", 3), Address("", 4))
    assert got["log.level"] == "debug"
    assert got["collector.cpu"] is True
    assert got.given["web.max-requests"] == "flag"
    assert got.given["web.listen-address"] == "environment"
    assert got.given["log.level"] == str(file)


def test_environment_lists_and_empty() -> None:
    got = settings(env={"PYMON_PATTERN": r"a{1\,2},b", "PYMON_LOG_LEVEL": "", "PYMON_COLLECTOR_CPU": "no", "HOME": "/"})
    assert got["pattern"] == (re.compile("a{1,2}"), re.compile("b"))
    assert got["log.level"] == "info"
    assert got["collector.cpu"] is False


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--web.max-request=3"], "--web.max-request: unknown flag, did you mean --web.max-requests?"),
        (["--web.max"], "--web.max: unknown flag"),
        (["--no-collector.cpus"], "--no-collector.cpus: unknown flag, did you mean --no-collector.cpu"),
        (["--owners=x"], "--owners: unknown flag"),
        (["-x"], "-x: unknown flag"),
        (["word"], "'word': expected a flag, pymon test takes no arguments"),
        (["--", "word"], "expected a flag"),
        (["--web.max-requests"], "--web.max-requests: expected one argument"),
        (["--web.max-requests=many"], "--web.max-requests: expected an integer, got 'many'"),
        (["--web.max-requests=1\n2"], r"--web.max-requests: expected an integer, got '1\n2'"),
        (["--web.max-requests=" + "9" * 5000], "--web.max-requests: expected an integer, got"),
        (["--web.listen-address=::1:80"], "expected HOST:PORT, [IPV6]:PORT or :PORT, got '::1:80'"),
        (["--log.level=loud"], "--log.level: expected one of debug, info, got 'loud'"),
        (["--pattern=("], "--pattern: expected a regular expression (missing ), unterminated subpattern at"),
        (["--collector.cpu=true"], "--collector.cpu"),
    ],
)
def test_flag_errors(argv: list[str], message: str) -> None:
    assert message in error(*argv)


def test_unknown_variables_are_one_warning(caplog: pytest.LogCaptureFixture) -> None:
    got = settings(env={"PYMON_WEB_MAXREQUESTS": "1", "PYMON_WEB_MAX_REQUESTS": "3", "PYMON_OWNERS": "x"})
    assert got["web.max-requests"] == 3
    (record,) = caplog.records
    assert record.levelname == "WARNING"
    assert "PYMON_WEB_MAXREQUESTS, did you mean PYMON_WEB_MAX_REQUESTS?" in record.getMessage()
    assert "PYMON_OWNERS" in record.getMessage()
    caplog.clear()
    settings(env={f"PYMON_X\n{number:09}" + "x" * 1000: "1" for number in range(100)})
    (text,) = caplog.messages
    assert "\n" not in text
    assert len(text) < 500
    assert text.endswith("; and 95 more")


def test_what_kubernetes_sets_for_a_service_is_no_option(caplog: pytest.LogCaptureFixture) -> None:
    table = (*TABLE, Option("port", STR, "none", "A name that a Service called pymon takes."))
    environment = {
        "PYMON_SERVICE_HOST": "10.96.0.7", "PYMON_SERVICE_PORT": "9164", "PYMON_PORT": "tcp://10.96.0.7:9164",
        "PYMON_PORT_9164_TCP": "tcp://[fd00::7]:9164", "PYMON_PORT_9164_TCP_PROTO": "tcp", "PYMON_LOG_LEVEL": "debug",
    }  # fmt: skip
    got = load(table, [], environment, program="pymon test", description="A test.", version="pymon 1.2.3")
    assert (got["port"], got["log.level"]) == ("none", "debug")
    assert len(caplog.records) == 1
    assert "PYMON_PORT" in caplog.text


def test_environment_errors() -> None:
    assert error(env={"PYMON_COLLECTOR_CPU": "maybe"}) == "PYMON_COLLECTOR_CPU: expected true or false, got 'maybe'"


@pytest.mark.parametrize(
    "text",
    [
        "web:\n  listen-address: [':1']\n  max-requests: 7\n",
        "web.listen-address: ':1'\nweb.max-requests: 7\n",
        "web: {listen-address: ':1'}\nweb.max-requests: 7\n",
        "\ufeffweb: {listen-address: ':1', max-requests: 0x7}\n",
    ],
)
def test_file_spellings(tmp_path: Path, text: str) -> None:
    got = from_file(tmp_path, text)
    assert (got["web.listen-address"], got["web.max-requests"]) == ((Address("", 1),), 7)


def test_file_values(tmp_path: Path) -> None:
    got = from_file(
        tmp_path,
        "owners: [{label: 'a', account: 2026-01-02}, {cgroup: b}]\npattern: x.y\nscrape: {timeout: 1h}\nlog:\n"
        "collector.textfile: true\ncollector: {textfile: {directory: /t}}\n",
    )
    assert got["owners"] == ({"label": "a", "account": "2026-01-02"}, {"cgroup": "b"})
    assert got["pattern"][0].pattern == "x.y"
    assert got["scrape.timeout"] == 3600
    assert (got["collector.textfile"], got["collector.textfile.directory"]) == (True, Path("/t"))
    assert from_file(tmp_path, "")["web.max-requests"] == 40
    assert from_file(tmp_path, "# nothing\n---\n")["web.max-requests"] == 40


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("web: {max-request: 3}", "web.max-request: unknown key, did you mean web.max-requests?"),
        ("wbe: {max-requests: 3}", "wbe: unknown key"),
        ("config: {file: x}", "config: unknown key"),
        ("web: 3", "web: expected a mapping, got 3"),
        ("web.max-requests: '3'", "web.max-requests: expected an integer, got '3'"),
        ("web.max-requests: yes", "web.max-requests: expected an integer, got 'yes'"),
        ("web.max-requests: true", "web.max-requests: expected an integer, got True"),
        ("web.max-requests:", "web.max-requests: expected an integer, got None"),
        ("web.max-requests: " + "9" * 5000, "line 1: an integer of more than 64 digits"),
        ("collector.cpu: 1", "collector.cpu: expected true or false, got 1"),
        ("collector.cpu: yes", "collector.cpu: expected true or false, got 'yes'"),
        ("web.listen-address: 80", "web.listen-address: expected HOST:PORT, [IPV6]:PORT or :PORT, got 80"),
        ("web.listen-address: [[':1']]", "web.listen-address: expected HOST:PORT"),
        ("scrape.timeout: 10", "scrape.timeout: expected a duration such as 10s, 1m or 1h30m, got 10"),
        ("owners: [a]", "owners: expected a mapping, got 'a'"),
        ("log.level: loud", "log.level: expected one of debug, info, got 'loud'"),
        ("web: {max-requests: 1}\nweb.max-requests: 2", "web.max-requests: given twice"),
        ("log.level: info\nlog.level: info", "line 2: log.level: given twice"),
        ("owners: [{a: 1,\n a: 2}]", "line 2: a: given twice"),
        ("1: 2", "line 1: 1: a key is a string"),
        ("[a]: 2", "line 1: ['a']: a key is a string"),
        ("{a: 1}: 2", "line 1: {'a': 1}: a key is a string"),
        ("a: [1\nb: 2", "line 2: "),
        ("a: 1\n\tb: 2", "line 2: "),
        ("owners: &x [*x]", "line 1: aliases are not taken"),
        ("owners: !!python/object:os.system {}", "line 1: could not determine a constructor"),
        ("<<: {log.level: info}", "<<: unknown key"),
        ("- a", "expected a mapping of options, got ['a']"),
        ("word", "expected a mapping of options, got 'word'"),
        ("--- {}\n--- {}", "line 2: "),
        (b"a: \xff", "expected UTF-8, got byte 0xff at 3"),
        (b"a: 1\nb: \x01", "line 2: special characters are not allowed"),
        (b"#" * (MAX_FILE_BYTES + 1), f"expected at most {MAX_FILE_BYTES} bytes, got more"),
        ("owners: " + "[" * 20000, "nested too deeply"),
        ("a: !!int x", "line 1: not a value of its tag int"),
        ("a: !!float x", "line 1: not a value of its tag float"),
        ("a: !!timestamp x", "line 1: could not determine a constructor"),
        ("a: !!binary é", "line 1: could not determine a constructor"),
        ("a: !!set {b, c}", "line 1: could not determine a constructor"),
        ("a: !!omap {b, c}", "line 1: could not determine a constructor"),
        ("a: !!bool x", "line 1: not a value of its tag bool"),
    ],
)
def test_file_errors(tmp_path: Path, text: str | bytes, message: str) -> None:
    assert message in file_error(tmp_path, text)


def test_file_that_cannot_be_read(tmp_path: Path) -> None:
    assert error(f"--config.file={tmp_path}") == f"{tmp_path}: cannot be read: Is a directory"
    missing = tmp_path / "none"
    assert error(f"--config.file={missing}") == f"{missing}: cannot be read: No such file or directory"


def test_help_and_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        settings("--help")
    assert stop.value.code == 0
    text = capsys.readouterr().out
    assert text.startswith("usage: pymon test [FLAG ...]")
    for row in TABLE:
        assert (f"--{row.name}" in text) is not row.file_only
    assert "100% sure" in text
    assert "Default: 127.0.0.1:9164." in text
    with pytest.raises(SystemExit):
        settings("--version")
    assert capsys.readouterr().out == "pymon 1.2.3\n"


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("0", 0), ("10s", 10), ("1m", 60), ("1h30m", 5400), ("250ms", 0.25), ("1.5s", 1.5), ("1d2ms", 86400.002)],
)
def test_seconds(text: str, seconds: float) -> None:
    assert parse_seconds(text) == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["", "10", "s", "1s1m", "1s1s", "-1s", "1 s", "1e3s", "10S", "nan", "1h 30m"])
def test_no_seconds(text: str) -> None:
    with pytest.raises(ValueError, match="a duration"):
        parse_seconds(text)


@pytest.mark.parametrize("text", ["127.0.0.1:9164", "[::1]:0", ":9164", "node-1.example.com:80", "[fe80::1%eth0]:1"])
def test_address_round_trip(text: str) -> None:
    assert str(parse_address(text)) == text


@pytest.mark.parametrize("text", ["", "80", "a", "a:", "a:65536", "a:-1", "a b:1", "[::1]", "::1:80", "http://a:1"])
def test_no_address(text: str) -> None:
    with pytest.raises(ValueError, match="HOST:PORT"):
        parse_address(text)


def test_listen_round_trip() -> None:
    assert parse_listen("unix:/run/pymon/proxy.sock") == UnixAddress(Path("/run/pymon/proxy.sock"))
    for text in ("unix:/run/pymon/proxy.sock", "unix:/a b:1", "[::1]:0", "unix:80"):
        assert str(parse_listen(text)) == text
    assert LISTEN.from_yaml("unix:/s") == UnixAddress(Path("/s"))


@pytest.mark.parametrize("text", ["", "unix:", "unix:a/b", "unix:/a\0", "/run/pymon.sock", "80"])
def test_nowhere_to_listen(text: str) -> None:
    with pytest.raises(ValueError, match=r"HOST:PORT, \[IPV6\]:PORT, :PORT or unix:/PATH"):
        parse_listen(text)


def test_core_schema() -> None:
    document = parse_yaml(b"a: on\nb: 1:30\nc: 1_000\nd: 0o10\ne: ~\nf: 1e3\ng: .5\nh: -7\ni: ''\nj: =\n", Path("f"))
    assert document == {
        "a": "on", "b": "1:30", "c": "1_000", "d": 8, "e": None, "f": 1000.0, "g": 0.5, "h": -7, "i": "", "j": "=",
    }  # fmt: skip


# --- options as fields ---------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Said:
    beside: int
    size: int = option("size", INT, 3, "Size.")
    shared: Path | None = setting(Option("shared", PATH, None, "A row of several tables."))
    upper: tuple[str, ...] = option("upper", text_kind(str.upper), (), "Text.", repeatable=True)


def test_a_field_is_the_row_and_takes_its_value(tmp_path: Path) -> None:
    table = options_of(Said)
    assert [row.name for row in table] == ["size", "shared", "upper"]
    assert Said(1) == Said(beside=1, size=3, shared=None, upper=())
    file = tmp_path / "f.yml"
    file.write_text("upper: [a, b]\n")
    settings = Settings({row.name: row.default for row in table} | load_file(table, file) | {"shared": file})
    assert Said(1, **values_of(Said, settings)) == Said(1, 3, file, ("A", "B"))
    with pytest.raises(ConfigError, match=r"^PYMON_UPPER: expected a string that is not empty, got ''$"):
        table[2].from_variable("a,,b")

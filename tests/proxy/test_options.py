"""The proxy's options: flags, variables, file, and what is refused."""

import re
import ssl
from pathlib import Path

import pytest
import trustme

from pymon.cli import main
from pymon.config import Address, ConfigError, UnixAddress
from pymon.proxy.options import load_proxy_options, option_table
from pymon.proxy.upstream_tls import UpstreamTLS
from tests.proxy.running import Site, run_proxy

TLS = ("--tls.cert-file=c.pem", "--tls.key-file=k.pem")


def options(*argv, env=None, uid=0):
    return load_proxy_options(argv, env or {}, uid)[0]


def test_defaults():
    got = options(*TLS)
    assert got.listen_addresses == (Address("", 9163),)
    assert got.telemetry_address == Address("127.0.0.1", 9165)
    assert (got.data_dir, got.directory) == (Path("/var/lib/pymon"), "/var/lib/pymon/directory.db")
    assert (got.zone, got.terminator_header, got.upstream_max_requests) == ("pymon.internal", "Client-Cert", 32)
    assert (got.terminator_addresses, got.terminator_trust) == ((), ())
    assert (got.upstream_ca, got.upstream_cert, got.upstream_key) == (None, None, None)
    assert not got.allow_expired_self_signed
    assert not got.include_stopped
    assert (got.log_level, got.log_format) == ("info", "logfmt")


def test_a_user_has_a_data_directory_of_its_own():
    assert options(*TLS, env={"HOME": "/home/u"}, uid=1000).data_dir == Path("/home/u/.local/share/pymon")
    assert options(*TLS, env={"XDG_DATA_HOME": "/x"}, uid=1000).data_dir == Path("/x/pymon")
    assert options(*TLS, "--data-dir=/d", env={"HOME": "/home/u"}, uid=1000).directory == "/d/directory.db"
    with pytest.raises(ConfigError, match="--data-dir: expected a path"):
        options(*TLS, uid=1000)


GOOD = {
    "web.listen-address": {":9163": (Address("", 9163),), "[::1]:0": (Address("::1", 0),), "h:1": (Address("h", 1),)},
    "telemetry.listen-address": {":1": Address("", 1)},
    "data-dir": {"/d": Path("/d"), "d": Path("d")},
    "directory": {"postgresql://h/d": "postgresql://h/d", "sqlite:///p": "sqlite:///p", "p": "p"},
    "zone": {"example.com": "example.com", "a": "a", "xn--bcher-kva.de": "xn--bcher-kva.de", "_x.1": "_x.1"},
    "auth.allow-expired-self-signed": {None: True},
    "terminator.listen-address": {"unix:/p": (UnixAddress(Path("/p")),)},
    "terminator.trust": {
        "10.0.0.1": ("10.0.0.1",),
        "2001:DB8::0:1": ("2001:db8::1",),
        "::ffff:10.0.0.1": ("10.0.0.1",),
    },
    "terminator.header": {"X-SSL-Client-Cert": "X-SSL-Client-Cert"},
    "upstream.tls-ca-file": {"f": Path("f")},
    "peer.address": {"h:1": Address("h", 1), "h:0": Address("h", 0)},
    "peer.crl-file": {"f": Path("f")},
    "upstream.max-requests": {"1": 1, "1000": 1000},
    "node.max-containers": {"1": 1, "50000": 50000},
    "web.max-connection-age": {"10m": 600.0, "0": 0.0},
    "drain": {"5s": 5.0, "0": 0.0},
    "workers": {"1": 1, "64": 64},
    "discovery.include-stopped": {None: True},
    "access-log": {"-": Path("-"), "f": Path("f")},
    "log.level": {"debug": "debug", "error": "error"},
    "log.format": {"json": "json"},
}
BAD = {
    "web.listen-address": ["", "9163", "host", "h:65536", "h:-1", "::1:80", "[::1]", "h:80/x", "unix:/p", "h:1\r\n"],
    "telemetry.listen-address": ["", "9165", "unix:/p"],
    "tls.cert-file": [""],
    "tls.key-file": [""],
    "data-dir": [""],
    "directory": [""],
    "zone": ["", "Example.com", "example.com.", ".example.com", "a..b", "-a", "a-", "a b", "bücher.de", "a/b", "a" * 64,
             ".".join(["a" * 60] * 4), "a\n", "a:1", "*.a"],
    "terminator.listen-address": ["", "unix:", "unix:relative", "h", ":x"],
    "terminator.trust": ["", "localhost", "10.0.0.0/8", "10.0.0.256", "10.0.0.1:80", "*"],
    "terminator.header": ["", "a b", "a:", "a\r\nb", "ü", "a" * 65],
    "upstream.tls-ca-file": [""],
    "peer.address": ["", "h", "unix:/p"],
    "peer.crl-file": [""],
    "upstream.tls-cert-file": [""],
    "upstream.tls-key-file": [""],
    "upstream.max-requests": ["", "0", "-1", "1.5", "x", "9" * 30],
    "node.max-containers": ["", "0", "-1", "1.5", "x"],
    "web.max-connection-age": ["", "1", "-1s", "x"],
    "drain": ["", "1", "-1s", "x"],
    "workers": ["", "0", "-1", "65", "1.5", "x"],
    "node.file": [""],
    "node.srv": ["", "_pymon._tcp.example.com", "ftp://a.b", "https://", "https://a..b", "https://a b", "https://a:1"],
    "access-log": [""],
    "log.level": ["", "warning", "INFO"],
    "log.format": ["", "text"],
}  # fmt: skip
FIELDS = {
    "web.max-connection-age": "connection_age_seconds",
    "drain": "drain_seconds",
    "web.listen-address": "listen_addresses",
    "telemetry.listen-address": "telemetry_address",
    "terminator.listen-address": "terminator_addresses",
    "auth.allow-expired-self-signed": "allow_expired_self_signed",
    "discovery.include-stopped": "include_stopped",
    "upstream.tls-ca-file": "upstream_ca",
    "peer.address": "peer_address",
    "peer.crl-file": "peer_crl",
}


def field(name):
    return FIELDS.get(name, re.sub(r"[.-]", "_", name))


def test_each_flag_and_variable_takes_good_values():
    for name, values in GOOD.items():
        for text, expected in values.items():
            given = () if text is None else (text,)
            got = options(*TLS, "=".join((f"--{name}", *given)))
            assert getattr(got, field(name)) == expected, (name, text)
            variable = "PYMON_" + re.sub(r"[.-]", "_", name).upper()
            assert getattr(options(*TLS, env={variable: text or "true"}), field(name)) == expected, variable
    assert not options(*TLS, "--discovery.include-stopped", "--no-discovery.include-stopped").include_stopped


def test_each_flag_refuses_bad_values_in_one_line_that_names_it():
    for name, values in BAD.items():
        for text in values:
            with pytest.raises(ConfigError) as refused:
                options(*TLS, f"--{name}={text}")
            line = str(refused.value)
            assert line.startswith(f"--{name}: expected "), line
            assert line.isascii()
            assert line.isprintable()
            assert len(line) < 250
    assert {option.name for option in option_table()} == {*GOOD, *BAD, "config.file"}


def test_options_that_need_one_another():
    for argv, text in {
        (): "tls.cert-file: expected a certificate or a terminator.listen-address, got neither",
        (TLS[0],): "tls.key-file: expected with tls.cert-file, got nothing",
        (TLS[1],): "tls.cert-file: expected with tls.key-file, got nothing",
        (
            *TLS,
            "--upstream.tls-cert-file=c",
        ): "upstream.tls-key-file: expected with upstream.tls-cert-file, got nothing",
        (*TLS, "--upstream.tls-key-file=c"): "upstream.tls-cert-file: expected with upstream.tls-key-file, got nothing",
        ("--terminator.listen-address=:80",): (
            "terminator.trust: expected an address for the terminators that connect by TCP, got none"
        ),
    }.items():
        with pytest.raises(ConfigError) as refused:
            options(*argv)
        assert str(refused.value) == text
    assert options("--terminator.listen-address=unix:/p").tls_cert is None
    both = options("--terminator.listen-address=unix:/p", "--terminator.listen-address=:80", "--terminator.trust=::1")
    assert len(both.terminator_addresses) == 2


def test_unknown_flags_and_keys_are_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"--zones: unknown flag|zones"):
        options(*TLS, "--zones=a")
    file = tmp_path / "proxy.yml"
    for text, problem in {
        "zones: a": "zones",
        "tls: {cert-file: c, key-files: k}": "tls.key-files",
        "zone: [a, b]": "zone: expected a string",
        "zone: 1": "zone: expected a string",
        "upstream: {max-requests: true}": "upstream.max-requests: expected an integer",
        "upstream: {max-requests: '3'}": "upstream.max-requests: expected an integer",
        "auth: {allow-expired-self-signed: 1}": "auth.allow-expired-self-signed: expected true or false",
        "web: {listen-address: [1]}": "web.listen-address: expected HOST:PORT",
        "terminator: {trust: [localhost]}": "terminator.trust: expected an IP address",
        "zone: a\nzone: b": "given twice",
        "- zone": "expected a mapping",
        "zone: 'a": "line 1",
        "tls: {cert-file: c}": "tls.key-file: expected with tls.cert-file",
        "": "tls.cert-file: expected a certificate",
    }.items():
        file.write_text(text)
        with pytest.raises(ConfigError) as refused:
            options(f"--config.file={file}")
        assert problem in str(refused.value), text
        assert len(str(refused.value).splitlines()) == 1


FILE = """\
web: {listen-address: ["127.0.0.1:1", "[::1]:2"]}
tls.cert-file: c.pem
tls: {key-file: k.pem}
terminator: {listen-address: unix:/p, trust: [10.0.0.1]}
upstream: {max-requests: 3, tls-ca-file: ca.pem}
auth: {allow-expired-self-signed: true}
discovery: {include-stopped: true}
zone: example.com
log: {level: warn, format: json}
"""


def test_a_file_says_what_flags_do_and_flags_win(tmp_path, capsys):
    file = tmp_path / "proxy.yml"
    file.write_text(FILE)
    got = options(f"--config.file={file}", "--zone=example.org")
    assert got.listen_addresses == (Address("127.0.0.1", 1), Address("::1", 2))
    assert (got.tls_cert, got.tls_key, got.upstream_ca) == (Path("c.pem"), Path("k.pem"), Path("ca.pem"))
    assert (got.zone, got.upstream_max_requests, got.log_level, got.log_format) == ("example.org", 3, "warn", "json")
    assert got.terminator_addresses == (UnixAddress(Path("/p")),)
    assert (got.terminator_trust, got.allow_expired_self_signed, got.include_stopped) == (("10.0.0.1",), True, True)
    assert options(env={"PYMON_CONFIG_FILE": str(file), "PYMON_ZONE": "z"}).zone == "z"
    assert main(["check-config", str(file)]) == 0
    assert capsys.readouterr() == (f"{file}: ok\n", "")
    file.write_text(FILE.replace("example.com", "Example.com"))
    assert main(["check-config", str(file)]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith(f"pymon: {file}: zone: expected a domain name in lower case")
    assert said.err.count("\n") == 1


def test_certificates_for_the_agents_are_read_at_the_start(tmp_path):
    ca = trustme.CA()
    issued = ca.issue_cert("proxy")
    good, key, text, missing = (tmp_path / name for name in ("c.pem", "k.pem", "text", "missing"))
    issued.cert_chain_pems[0].write_to_path(good)
    issued.private_key_pem.write_to_path(key)
    text.write_text("no PEM\n")
    for flags, problem in {
        (f"--upstream.tls-ca-file={missing}",): f"{missing}: cannot be read: No such file or directory",
        (f"--upstream.tls-ca-file={text}",): f"{text}: expected certificates in PEM: ",
        (f"--upstream.tls-ca-file={tmp_path}",): f"{tmp_path}: ",
        (f"--upstream.tls-cert-file={missing}", f"--upstream.tls-key-file={key}"): ": cannot be read: No such file",
        (f"--upstream.tls-cert-file={good}", f"--upstream.tls-key-file={missing}"): ": cannot be read: No such file",
        (f"--upstream.tls-cert-file={good}", f"--upstream.tls-key-file={text}"): f"{good}: expected a certificate and ",
        (f"--upstream.tls-cert-file={key}", f"--upstream.tls-key-file={key}"): f"{key}: expected a certificate and ",
    }.items():
        with pytest.raises(ConfigError) as refused:
            UpstreamTLS(options(*TLS, f"--data-dir={tmp_path}", *flags), 0.0)
        assert problem in str(refused.value), flags
    given = (f"--upstream.tls-cert-file={good}", f"--upstream.tls-key-file={key}")
    tls = UpstreamTLS(options(*TLS, f"--data-dir={tmp_path}", *given), 0.0)
    context = tls.context
    assert (context.check_hostname, context.verify_mode) == (True, ssl.CERT_REQUIRED)
    assert context.minimum_version == ssl.TLSVersion.TLSv1_2
    assert tls.pinned.verify_mode == ssl.CERT_NONE


def test_what_cannot_be_used_is_one_line_and_exit_code_2(tmp_path):
    site = Site(tmp_path)
    site.directory.close()
    missing = tmp_path / "missing.pem"
    for flags, line in {
        ("--zone=X",): "--zone: expected a domain name in lower case such as example.com, got 'X'",
        (f"--tls.cert-file={missing}",): f"{missing}: cannot be read: No such file or directory",
        ("--directory=mysql://h/d",): "",
    }.items():
        done = run_proxy(*site.flags(), *flags)
        errors = done.stderr.splitlines()
        assert (done.returncode, done.stdout, len(errors)) == (2, "", 1), done
        assert errors[0].startswith(f"pymon: {line}")
    done = run_proxy("--help")
    assert (done.returncode, done.stderr) == (0, "")
    assert all(f"--{option.name}" in done.stdout for option in option_table())

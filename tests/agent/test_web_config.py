"""The web configuration file: what is taken, what is refused, and the contexts made of it."""

from __future__ import annotations

import re
import ssl
from pathlib import Path

import bcrypt
import pytest
import trustme
from cryptography.hazmat.primitives import serialization

from pymon.agent.web_config import RateLimit, WebConfig, load_web_config, make_context, parse_web_config, san_allowed
from pymon.config import ConfigError

HASH = bcrypt.hashpw(b"secret", bcrypt.gensalt(4)).decode()


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("pki")
    ca = trustme.CA()
    pair = ca.issue_cert("localhost", "127.0.0.1")
    ca.cert_pem.write_to_path(str(directory / "ca.pem"))
    pair.private_key_pem.write_to_path(str(directory / "key.pem"))
    pair.cert_chain_pems[0].write_to_path(str(directory / "cert.pem"))
    return directory


def parse(text: str) -> WebConfig:
    return parse_web_config(text.encode(), Path("/etc/pymon/web.yml"))


def tls(pki: Path, extra: str = "") -> ssl.SSLContext:
    file = pki / "web.yml"
    file.write_text(f"tls_server_config:\n  cert_file: cert.pem\n  key_file: key.pem\n{extra}")
    config = load_web_config(file)
    assert config.tls
    return make_context(config.tls, file)


def test_empty() -> None:
    assert parse("") == WebConfig(users={})


def test_everything_else() -> None:
    config = parse(
        f"basic_auth_users:\n  alice: {HASH}\nrate_limit: {{interval: 250ms, burst: 5}}\n"
        "http_server_config:\n  http2: true\n  headers:\n    X-Frame-Options: deny\n"
        "    Content-Security-Policy: default-src 'self'\n    X-Content-Type-Options: nosniff\n"
        "    Strict-Transport-Security: max-age=31536000\n    X-XSS-Protection: '1; mode=block'\n"
    )
    assert config.users == {"alice": HASH.encode()}
    assert config.rate_limit == RateLimit(0.25, 5)
    assert config.header_block.startswith(b"X-Frame-Options: deny\r\nContent-Security-Policy: default-src 'self'\r\n")
    assert parse("rate_limit: {interval: 0, burst: 3}").rate_limit is None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("tls: {}", "tls: unknown key"),
        ("tls_server_config: []", "tls_server_config: expected a mapping, got []"),
        ("tls_server_config: {cert_file: a}", "tls_server_config.key: expected key or key_file, got neither"),
        ("tls_server_config: {key_file: a}", "tls_server_config.cert: expected cert or cert_file, got neither"),
        ("tls_server_config: {cert: a, cert_file: a, key_file: b}", "expected one of cert and cert_file, got both"),
        ("tls_server_config: {cert_fil: a}", "tls_server_config.cert: expected cert"),
        ("tls_server_config: {cert_file: a, key_file: b, x: 1}", "tls_server_config.x: unknown key"),
        (
            "tls_server_config: {cert_file: a, key_file: b, min_version: TLS10}",
            "min_version: expected one of TLS12, TLS13",
        ),
        (
            "tls_server_config: {cert_file: a, key_file: b, min_version: TLS13, max_version: TLS12}",
            "min_version: expected one up to max_version",
        ),
        (
            "tls_server_config: {cert_file: a, key_file: b, client_auth_type: RequestClientCert}",
            "client_auth_type: RequestClientCert is not available here",
        ),
        (
            "tls_server_config: {cert_file: a, key_file: b, client_auth_type: RequireAnyClientCert}",
            "client_auth_type: RequireAnyClientCert is not available here",
        ),
        ("tls_server_config: {cert_file: a, key_file: b, client_auth_type: Never}", "expected one of NoClientCert"),
        (
            "tls_server_config: {cert_file: a, key_file: b, client_ca_file: c}",
            "client_auth_type: expected one that verifies",
        ),
        (
            "tls_server_config: {cert_file: a, key_file: b, client_auth_type: RequireAndVerifyClientCert}",
            "client_ca: expected client_ca or client_ca_file",
        ),
        ("tls_server_config: {cert_file: a, key_file: b, client_allowed_sans: [x]}", "client_allowed_sans: expected"),
        (
            "tls_server_config: {cert_file: a, key_file: b, cipher_suites: [TLS_RSA_WITH_RC4_128_SHA]}",
            "'TLS_RSA_WITH_RC4_128_SHA' is no secure cipher suite",
        ),
        (
            (
                "tls_server_config: {cert_file: a, key_file: b, max_version: TLS12, "
                "cipher_suites: [TLS_AES_128_GCM_SHA256]}"
            ),
            "cipher_suites: expected a suite of TLS 1.2",
        ),
        (
            "tls_server_config: {cert_file: a, key_file: b, curve_preferences: [X25519, CurveP256]}",
            "curve_preferences: expected at most one curve",
        ),
        ("tls_server_config: {cert_file: a, key_file: b, curve_preferences: [P1]}", "expected one of CurveP256"),
        ("tls_server_config: {cert_file: a, key_file: b, prefer_server_cipher_suites: 1}", "expected true or false"),
        ("http_server_config: {headers: {Server: x}}", "http_server_config.headers.Server: expected one of Content-"),
        ("http_server_config: {headers: {X-Frame-Options: allow}}", "expected one of deny, sameorigin, got 'allow'"),
        ('http_server_config: {headers: {X-XSS-Protection: "a\\r\\nb"}}', "expected a printable string"),
        ("http_server_config: {http2: maybe}", "http_server_config.http2: expected true or false"),
        ("basic_auth_users: {a: plain}", "basic_auth_users.a: expected a bcrypt hash"),
        ("basic_auth_users: {'a:b': x}", "basic_auth_users.a:b: expected a user name without a colon"),
        ("rate_limit: {interval: soon}", "rate_limit.interval: expected a duration"),
        ("rate_limit: {interval: 1s}", "rate_limit.burst: expected 1 or more, got 0"),
        ("a: [", "line 1: "),
    ],
)
def test_errors(text: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse(text)
    assert str(caught.value).startswith("/etc/pymon/web.yml: ")
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_hash_or_key_is_not_in_the_error() -> None:
    with pytest.raises(ConfigError) as caught:
        parse("basic_auth_users: {a: hunter2}")
    assert "hunter2" not in str(caught.value)


def test_context(pki: Path) -> None:
    context = tls(
        pki,
        "  min_version: TLS12\n  max_version: TLS12\n  curve_preferences: [CurveP384]\n"
        "  cipher_suites: [TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384, TLS_AES_128_GCM_SHA256]\n"
        "  prefer_server_cipher_suites: false\n",
    )
    assert context.maximum_version == ssl.TLSVersion.TLSv1_2
    names = {cipher["name"] for cipher in context.get_ciphers() if cipher["protocol"] == "TLSv1.2"}
    assert names == {"ECDHE-RSA-AES256-GCM-SHA384"}
    assert not context.options & ssl.OP_CIPHER_SERVER_PREFERENCE
    assert tls(pki).options & ssl.OP_CIPHER_SERVER_PREFERENCE
    assert tls(pki, "  cipher_suites: [TLS_AES_128_GCM_SHA256]\n").minimum_version == ssl.TLSVersion.TLSv1_3


def test_client_auth(pki: Path) -> None:
    for word, mode in (
        ("VerifyClientCertIfGiven", ssl.CERT_OPTIONAL),
        ("RequireAndVerifyClientCert", ssl.CERT_REQUIRED),
    ):
        context = tls(pki, f"  client_ca_file: ca.pem\n  client_auth_type: {word}\n")
        assert context.verify_mode == mode
        assert len(context.get_ca_certs()) == 1


def test_inline_pem(pki: Path) -> None:
    file = pki / "inline.yml"
    blocks = {
        "cert": (pki / "cert.pem").read_text(),
        "key": (pki / "key.pem").read_text(),
        "client_ca": (pki / "ca.pem").read_text(),
    }
    text = "tls_server_config:\n  client_auth_type: RequireAndVerifyClientCert\n"
    for name, pem in blocks.items():
        text += f"  {name}: |\n" + "".join(f"    {line}\n" for line in pem.splitlines())
    file.write_text(text)
    config = load_web_config(file)
    assert config.tls
    assert config.tls.files == ()
    assert make_context(config.tls, file).get_ca_certs()


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        ({"cert.pem": b"garbage"}, "expected a certificate and its key in PEM"),
        ({"cert.pem": b""}, "expected a certificate and its key in PEM"),
        ({"key.pem": b"\xff\xfe"}, "expected a certificate and its key in PEM"),
        ({"key.pem": "other"}, "expected a certificate and its key in PEM: KEY_VALUES_MISMATCH"),
        ({"key.pem": "encrypted"}, "expected a certificate and its key in PEM: the key is encrypted"),
        ({"key.pem": None}, "tls_server_config.key_file: .*key.pem cannot be read: No such file"),
        ({"ca.pem": None}, "tls_server_config.client_ca_file: .*ca.pem cannot be read: No such file"),
        ({"ca.pem": b"\xffgarbage"}, "tls_server_config.client_ca: expected certificates in PEM"),
        ({"ca.pem": b""}, "tls_server_config.client_ca: expected certificates in PEM"),
    ],
)
def test_bad_files(pki: Path, tmp_path: Path, broken: dict[str, bytes | str | None], message: str) -> None:
    for name in ("cert.pem", "key.pem", "ca.pem"):
        (tmp_path / name).write_bytes((pki / name).read_bytes())
    for name, data in broken.items():
        if data is None:
            (tmp_path / name).unlink()
        elif data == "other":
            (tmp_path / name).write_bytes(trustme.CA().issue_cert("x").private_key_pem.bytes())
        elif data == "encrypted":
            key = serialization.load_pem_private_key((pki / "key.pem").read_bytes(), None)
            encryption = serialization.BestAvailableEncryption(b"x")
            (tmp_path / name).write_bytes(
                key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption)
            )
        else:
            assert isinstance(data, bytes)
            (tmp_path / name).write_bytes(data)
    with pytest.raises(ConfigError) as caught:
        tls(tmp_path, "  client_ca_file: ca.pem\n  client_auth_type: RequireAndVerifyClientCert\n")
    assert re.search(message, str(caught.value))


@pytest.mark.parametrize(
    ("names", "allowed", "expected"),
    [
        ([("DNS", "a.example")], {"a.example"}, True),
        ([("DNS", "b.a.example")], {"*.a.example", "a.example"}, False),
        ([("DNS", "x"), ("IP Address", "10.0.0.1")], {"10.0.0.1"}, True),
        ([("IP Address", "2001:DB8:0:0:0:0:0:1\n")], {"2001:db8::1"}, True),
        ([("email", "ops@example.com")], {"ops@example.com"}, True),
        ([("URI", "spiffe://x/y")], {"spiffe://x/y"}, True),
        ([("DirName", "a.example")], {"a.example"}, False),
        ([], {"a"}, False),
    ],
)
def test_san_allowed(names: list[tuple[str, str]], allowed: set[str], expected: bool) -> None:
    assert san_allowed({"subjectAltName": tuple(names)}, frozenset(allowed)) is expected
    assert san_allowed(None, frozenset(allowed)) is False

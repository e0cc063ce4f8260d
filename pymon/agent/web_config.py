"""The web configuration file of the Prometheus exporters (exporter-toolkit): TLS, headers, users, rate limit.

Differences from exporter-toolkit. What is not supported is a configuration error, except ``http2``:

- TLS 1.0 and 1.1 are refused. At most one curve can be preferred, because Python's ssl module can set only one.
- ``RequestClientCert`` and ``RequireAnyClientCert`` are refused: Python's ssl requests a certificate only to verify it.
- ``http2`` is accepted and ignored. The server speaks HTTP/1.1, to which clients of HTTP/2 fall back.
- ``client_allowed_sans`` is checked after the handshake, before anything is read from the connection.
- ``client_crl`` and ``client_crl_file`` are additions: they name certificate revocation lists.
"""

from __future__ import annotations

import datetime as dt
import ipaddress
import math
import re
import ssl
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cryptography import x509

from pymon.config import ConfigError, nearest, parse_seconds, parse_yaml, read_file, shown
from pymon.service.key_pair import load_pair

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_VERSIONS = {"TLS12": ssl.TLSVersion.TLSv1_2, "TLS13": ssl.TLSVersion.TLSv1_3}

_CURVES = {"CurveP256": "prime256v1", "CurveP384": "secp384r1", "CurveP521": "secp521r1", "X25519": "X25519"}

_CIPHERS = {
    "TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA": "ECDHE-ECDSA-AES128-SHA",
    "TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA": "ECDHE-ECDSA-AES256-SHA",
    "TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA": "ECDHE-RSA-AES128-SHA",
    "TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA": "ECDHE-RSA-AES256-SHA",
    "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256": "ECDHE-ECDSA-AES128-GCM-SHA256",
    "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384": "ECDHE-ECDSA-AES256-GCM-SHA384",
    "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256": "ECDHE-RSA-AES128-GCM-SHA256",
    "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384": "ECDHE-RSA-AES256-GCM-SHA384",
    "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256": "ECDHE-RSA-CHACHA20-POLY1305",
    "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256": "ECDHE-ECDSA-CHACHA20-POLY1305",
}
"""Secure cipher suites of TLS 1.2: Go's name and OpenSSL's name of each."""

_CIPHERS_TLS13 = frozenset(("TLS_AES_128_GCM_SHA256", "TLS_AES_256_GCM_SHA384", "TLS_CHACHA20_POLY1305_SHA256"))
"""Cipher suites of TLS 1.3. They are accepted in the list and have no effect, as in Go."""

_CLIENT_AUTH = {
    "NoClientCert": ssl.CERT_NONE,
    "VerifyClientCertIfGiven": ssl.CERT_OPTIONAL,
    "RequireAndVerifyClientCert": ssl.CERT_REQUIRED,
}
_CLIENT_AUTH_REFUSED = ("RequestClientCert", "RequireAnyClientCert", "RequireClientCert")

_HEADERS: dict[str, tuple[str, ...]] = {
    "Content-Security-Policy": (),
    "X-Frame-Options": ("deny", "sameorigin"),
    "X-Content-Type-Options": ("nosniff",),
    "X-XSS-Protection": (),
    "Strict-Transport-Security": (),
}

_PEM_MAX_BYTES = 4 << 20
"""Largest PEM file. A revocation list of this size has about 80,000 certificates."""

_CRL_BLOCK = re.compile(rb"-----BEGIN X509 CRL-----[A-Za-z0-9+/=\s]*-----END X509 CRL-----\n?")

_BCRYPT = re.compile(r"\$2[aby]\$(0[4-9]|[12][0-9]|3[01])\$[./A-Za-z0-9]{53}")


@dataclass(frozen=True, slots=True)
class TLSConfig:
    """The TLS configuration. A certificate, key, CA or revocation list is PEM text, or the path of a PEM file."""

    cert: str | Path
    key: str | Path
    client_ca: str | Path | None
    client_crl: str | Path | None
    client_auth: ssl.VerifyMode
    client_allowed_sans: frozenset[str]
    min_version: ssl.TLSVersion
    max_version: ssl.TLSVersion
    ciphers: tuple[str, ...]
    prefer_server_ciphers: bool
    curve: str | None

    @property
    def files(self) -> tuple[Path, ...]:
        """Paths of the files that the configuration names."""
        return tuple(item for item in (self.cert, self.key, self.client_ca, self.client_crl) if isinstance(item, Path))


@dataclass(frozen=True, slots=True)
class RateLimit:
    """The parameters of a token bucket: one token is added each `interval_seconds`, up to `burst` tokens."""

    interval_seconds: float
    burst: int


@dataclass(frozen=True, slots=True)
class WebConfig:
    """The content of a web configuration file.

    users: bcrypt hashes by user name; without users, no authentication is needed. rate_limit: None for no limit.
    """

    tls: TLSConfig | None = None
    headers: tuple[tuple[str, str], ...] = ()
    users: Mapping[str, bytes] | None = None
    rate_limit: RateLimit | None = None

    @property
    def header_block(self) -> bytes:
        """The header lines for a reply, each with its line end."""
        return "".join(f"{name}: {value}\r\n" for name, value in self.headers).encode("ascii")


class _Section:
    """A mapping in the file. Its keys are read one by one, and `done` raises ConfigError for keys that were not read.

    name: path of the mapping in the file, for error messages; "" for the top level. Methods that return a value raise
    ConfigError if it is not valid.
    """

    def __init__(self, file: Path, name: str, raw: Any) -> None:
        if not isinstance(raw, dict):
            raise ConfigError(f"{file}: {name}: expected a mapping, got {shown(raw)}")
        self._file, self._name, self._raw, self._known = file, name, raw, set[str]()

    def error(self, key: str, text: str) -> ConfigError:
        name = f"{self._name}.{key}" if self._name else key
        return ConfigError(f"{self._file}: {name}: {text}")

    def take(self, key: str, kind: type, expected: str, default: Any = None) -> Any:
        """Return the value of a key, or the default if the key is absent or null."""
        self._known.add(key)
        value = self._raw.get(key)
        if value is None:
            return default
        if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
            raise self.error(key, f"expected {expected}, got {shown(value)}")
        return value

    def choice(self, key: str, choices: Mapping[str, Any], default: str) -> Any:
        """Return what the word under a key maps to in `choices`. default: the word if the key is absent."""
        word = self.take(key, str, "a string", default)
        if word not in choices:
            raise self.error(key, f"expected one of {', '.join(choices)}, got {shown(word)}")
        return choices[word]

    def texts(self, key: str) -> tuple[str, ...]:
        """Return a list of strings, empty if the key is absent."""
        value = self.take(key, list, "a list of strings", [])
        if not all(isinstance(item, str) and item for item in value):
            raise self.error(key, f"expected a list of strings, got {shown(value)}")
        return tuple(value)

    def pem(self, key: str) -> str | Path | None:
        """Return the PEM text under KEY, the path under ``KEY_file``, or None if both are absent.

        A relative path is relative to the directory of the configuration file.
        """
        text = self.take(key, str, "PEM text", "")
        name = self.take(f"{key}_file", str, "a path", "")
        if text and name:
            raise self.error(key, f"expected one of {key} and {key}_file, got both")
        if "\0" in name:
            raise self.error(f"{key}_file", f"expected a path, got {shown(name)}")
        return self._file.parent / name if name else text or None

    def done(self) -> None:
        for key in self._raw:
            if key not in self._known:
                raise self.error(key, f"unknown key{nearest(key, self._known)}")


def _tls(file: Path, raw: Any) -> TLSConfig:
    section = _Section(file, "tls_server_config", raw)
    cert, key, client_ca = section.pem("cert"), section.pem("key"), section.pem("client_ca")
    client_crl = section.pem("client_crl")
    if cert is None or key is None:
        missing = "key" if cert else "cert"
        raise section.error(missing, f"expected {missing} or {missing}_file, got neither")
    auth_word = section.take("client_auth_type", str, "a string", "") or "NoClientCert"
    if auth_word in _CLIENT_AUTH_REFUSED:
        raise section.error(
            "client_auth_type",
            f"{auth_word} is not available here: a certificate is only ever asked for to verify it; "
            "expected NoClientCert, VerifyClientCertIfGiven or RequireAndVerifyClientCert",
        )
    if auth_word not in _CLIENT_AUTH:
        raise section.error("client_auth_type", f"expected one of {', '.join(_CLIENT_AUTH)}, got {shown(auth_word)}")
    auth = _CLIENT_AUTH[auth_word]
    if client_ca is not None and auth == ssl.CERT_NONE:
        raise section.error("client_auth_type", "expected one that verifies, as there is a client_ca, got NoClientCert")
    if client_ca is None and auth != ssl.CERT_NONE:
        raise section.error("client_ca", f"expected client_ca or client_ca_file for {auth_word}, got neither")
    if client_crl is not None and auth == ssl.CERT_NONE:
        raise section.error("client_crl", "expected a client_auth_type that verifies, got NoClientCert")
    sans = section.texts("client_allowed_sans")
    if sans and auth == ssl.CERT_NONE:
        raise section.error("client_allowed_sans", "expected a client_auth_type that verifies, got NoClientCert")
    versions = _VERSIONS
    minimum = section.choice("min_version", versions, "TLS12")
    maximum = section.choice("max_version", versions, "TLS13")
    if minimum > maximum:
        raise section.error("min_version", "expected one up to max_version, got a later one")
    suites = section.texts("cipher_suites")
    for suite in suites:
        if suite not in _CIPHERS and suite not in _CIPHERS_TLS13:
            known = (*_CIPHERS, *_CIPHERS_TLS13)
            raise section.error("cipher_suites", f"{shown(suite)} is no secure cipher suite{nearest(suite, known)}")
    ciphers = tuple(_CIPHERS[suite] for suite in suites if suite in _CIPHERS)
    if suites and not ciphers:
        if maximum < ssl.TLSVersion.TLSv1_3:
            raise section.error("cipher_suites", "expected a suite of TLS 1.2, as max_version is TLS12")
        minimum = ssl.TLSVersion.TLSv1_3
    curves = section.texts("curve_preferences")
    if len(curves) > 1:
        raise section.error(
            "curve_preferences", f"expected at most one curve, which is what can be set, got {len(curves)}"
        )
    for curve in curves:
        if curve not in _CURVES:
            raise section.error("curve_preferences", f"expected one of {', '.join(_CURVES)}, got {shown(curve)}")
    prefer = section.take("prefer_server_cipher_suites", bool, "true or false", default=True)
    section.done()
    return TLSConfig(
        cert=cert,
        key=key,
        client_ca=client_ca,
        client_crl=client_crl,
        client_auth=auth,
        client_allowed_sans=frozenset(map(canonical_san, sans)),
        min_version=minimum,
        max_version=maximum,
        ciphers=ciphers,
        prefer_server_ciphers=prefer,
        curve=_CURVES[curves[0]] if curves else None,
    )


def _headers(file: Path, raw: Any) -> tuple[tuple[str, str], ...]:
    section = _Section(file, "http_server_config", raw)
    section.take("http2", bool, "true or false")
    names = section.take("headers", dict, "a mapping", {})
    section.done()
    headers = _Section(file, "http_server_config.headers", names)
    for name, value in names.items():
        if name not in _HEADERS:
            raise headers.error(name, f"expected one of {', '.join(_HEADERS)}")
        if not isinstance(value, str) or not value.isascii() or not value.isprintable():
            raise headers.error(name, f"expected a printable string, got {shown(value)}")
        if _HEADERS[name] and value not in _HEADERS[name]:
            raise headers.error(name, f"expected one of {', '.join(_HEADERS[name])}, got {shown(value)}")
    return tuple(names.items())


def _users(file: Path, raw: Any) -> Mapping[str, bytes]:
    section = _Section(file, "basic_auth_users", raw)
    for name, value in raw.items():
        if ":" in name:
            raise section.error(name, "expected a user name without a colon")
        if not isinstance(value, str) or not _BCRYPT.fullmatch(value):
            raise section.error(name, "expected a bcrypt hash")
    return {name: value.encode("ascii") for name, value in raw.items()}


def _rate_limit(file: Path, raw: Any) -> RateLimit | None:
    section = _Section(file, "rate_limit", raw)
    text = section.take("interval", str | int, "a duration such as 1s", "0")  # type: ignore[arg-type]
    burst = section.take("burst", int, "an integer", 0)
    section.done()
    try:
        interval = parse_seconds(str(text))
    except ValueError as error:
        raise section.error("interval", f"expected {error}, got {shown(text)}") from None
    if not interval:
        return None
    if burst < 1:
        raise section.error("burst", f"expected 1 or more, got {burst}")
    return RateLimit(interval, burst)


_READERS: dict[str, Callable[[Path, Any], Any]] = {
    "tls_server_config": _tls,
    "http_server_config": _headers,
    "basic_auth_users": _users,
    "rate_limit": _rate_limit,
}

_NEEDED = frozenset(("cert", "cert_file", "key", "key_file", "client_ca", "client_ca_file", "client_auth_type"))
"""Keys that others depend on: without them, other keys would cause errors of their own."""

KEYS = tuple(_READERS)
"""Keys that the top level of the file may have."""


def parse_web_config(data: bytes, file: Path) -> WebConfig:
    """Parse the content of a web configuration file. Does not read the files that it names.

    file: its path, for error messages and to resolve relative paths. Raises ConfigError.
    """
    return _parse(parse_yaml(data, file), file)


def _parse(content: Mapping[str, Any], file: Path) -> WebConfig:
    document = _Section(file, "", content)
    raw = {key: document.take(key, dict, "a mapping") for key in KEYS}
    document.done()
    tls, headers, users, limit = (
        read(file, raw[key]) if raw[key] is not None else None for key, read in _READERS.items()
    )
    return WebConfig(tls=tls, headers=headers or (), users=users or {}, rate_limit=limit)


def web_config_errors(data: bytes, file: Path) -> list[str]:
    """Return the errors in the content of a web configuration file, one line each.

    Raises ConfigError if the content is not a YAML mapping.
    """
    errors: list[str] = []
    for key, value in parse_yaml(data, file).items():
        content = {key: value}
        while True:
            try:
                _parse(content, file)
                break
            except ConfigError as error:
                errors.append(str(error))
                content = {key: _without(str(error).removeprefix(f"{file}: {key}."), content[key])}
                if content[key] is None:
                    break
    return errors


def _without(error: str, section: Any) -> Any:
    """Return a section without the key that an error names. None if it has no such key, or other keys depend on it."""
    name = error.partition(": ")[0]
    if not isinstance(section, dict):
        return None
    headers = section.get("headers")
    if name.startswith("headers.") and isinstance(headers, dict):
        less = _without(error.removeprefix("headers."), headers)
        return None if less is None else {**section, "headers": less}
    if name not in section or name in _NEEDED:
        return None
    return {key: value for key, value in section.items() if key != name}


def load_web_config(file: Path) -> WebConfig:
    """Read and parse a web configuration file. Does not read the files that it names. Raises ConfigError."""
    return parse_web_config(read_file(file), file)


# --- TLS ---------------------------------------------------------------------------------------


def canonical_san(text: str) -> str:
    """Return a subject alternative name in the form for comparison: IP addresses in shortest form, others unchanged."""
    try:
        return str(ipaddress.ip_address(text.strip()))
    except ValueError:
        return text


def san_allowed(certificate: Mapping[str, Any] | None, allowed: frozenset[str]) -> bool:
    """Return whether a certificate has an allowed DNS, IP, email or URI name.

    certificate: as ``getpeercert`` returns it. allowed: names as `canonical_san` returns them.
    """
    names = certificate.get("subjectAltName", ()) if certificate else ()
    return any(kind in {"DNS", "IP Address", "email", "URI"} and canonical_san(name) in allowed for kind, name in names)


def _load_chain(context: ssl.SSLContext, tls: TLSConfig, file: Path) -> None:
    with tempfile.TemporaryDirectory(prefix="pymon-tls-") as directory:
        paths: list[Path] = []
        for name, item in (("cert", tls.cert), ("key", tls.key)):
            path = item if isinstance(item, Path) else Path(directory, name)
            if isinstance(item, str):
                path.touch(mode=0o600)
                path.write_text(item)
            key = f"{file}: tls_server_config.{name}" + ("_file" if isinstance(item, Path) else "")
            _bounded(path, f"{key}: {item}")
            paths.append(path)
        try:
            load_pair(context, *paths)
        except ValueError as error:
            raise ConfigError(
                f"{file}: tls_server_config: expected a certificate and its key in PEM: {error}"
            ) from None


def _bounded(path: Path, name: str) -> bytes:
    """Return the bytes of a PEM file. Raises ConfigError, which begins with `name`, as `read_pem` does."""
    try:
        with path.open("rb") as file:
            data = file.read(_PEM_MAX_BYTES + 1)
    except OSError as error:
        raise ConfigError(f"{name} cannot be read: {error.strerror}") from None
    if len(data) > _PEM_MAX_BYTES:
        raise ConfigError(f"{name}: expected at most {_PEM_MAX_BYTES} bytes, got more")
    return data


def read_crl(tls: TLSConfig, file: Path, now: dt.datetime) -> bytes | None:
    """Return the configured revocation lists in PEM, None if there are none.

    file: the web configuration file, for error messages. Raises ConfigError when a list cannot be read, is not in force
    at `now`, or is not signed by an authority in client_ca. TLS would refuse every client with such a list.
    """
    source = tls.client_crl
    if source is None or tls.client_ca is None:
        return None
    key = f"{file}: tls_server_config.client_crl" + (f"_file: {source}" if isinstance(source, Path) else "")
    data = read_pem(source, key)
    authorities = read_pem(tls.client_ca, f"{file}: tls_server_config.client_ca")
    blocks = _CRL_BLOCK.findall(data)
    try:
        lists = [x509.load_pem_x509_crl(block) for block in blocks]
        issuers = x509.load_pem_x509_certificates(authorities)
    except ValueError:
        lists, issuers = [], []
    if not lists:
        raise ConfigError(f"{key}: expected a list of revoked certificates in PEM")
    for one in lists:
        if not any(_is_list_of(one, issuer) for issuer in issuers):
            raise ConfigError(f"{key}: expected a list of an authority in client_ca, got one that none of them signed")
        if one.last_update_utc > now:
            raise ConfigError(f"{key}: not in force before {one.last_update_utc:%Y-%m-%d %H:%M:%S} UTC")
        if one.next_update_utc is not None and one.next_update_utc <= now:
            raise ConfigError(f"{key}: not in force since {one.next_update_utc:%Y-%m-%d %H:%M:%S} UTC, make a new one")
    return b"".join(blocks)


def read_pem(source: str | Path, key: str) -> bytes:
    """Return PEM text, or the content of its file.

    key: of the configuration, for error messages. Raises ConfigError if the file cannot be read or has more than
    `_PEM_MAX_BYTES`.
    """
    if isinstance(source, str):
        return source.encode("utf-8", "replace")
    return read_file(source, _PEM_MAX_BYTES, key)


def crl_end(crl: bytes) -> float:
    """Return when the first of the revocation lists that `read_crl` returned must be replaced.

    The time is in seconds since the epoch, infinite if none of them says.
    """
    lists = map(x509.load_pem_x509_crl, _CRL_BLOCK.findall(crl))
    return min((one.next_update_utc.timestamp() for one in lists if one.next_update_utc is not None), default=math.inf)


def _is_list_of(revoked: x509.CertificateRevocationList, issuer: x509.Certificate) -> bool:
    try:
        return revoked.issuer == issuer.subject and revoked.is_signature_valid(issuer.public_key())  # type: ignore[arg-type]  # TypeError
    except (TypeError, ValueError):
        return False


def make_context(tls: TLSConfig, file: Path, crl: bytes | None = None) -> ssl.SSLContext:
    """Return the TLS context of a server.

    file: the web configuration file, for error messages. crl: revocation lists as `read_crl` returns them; with them, a
    client's certificate is refused if its issuer has no list. Raises ConfigError when a certificate, key or CA cannot
    be used.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = tls.min_version
    context.maximum_version = tls.max_version
    # No session tickets: each connection must show its client's certificate, and must use the current configuration.
    context.options |= ssl.OP_NO_TICKET | ssl.OP_NO_RENEGOTIATION
    context.num_tickets = 0
    if tls.prefer_server_ciphers:
        context.options |= ssl.OP_CIPHER_SERVER_PREFERENCE
    else:
        context.options &= ~ssl.OP_CIPHER_SERVER_PREFERENCE
    if tls.ciphers:
        context.set_ciphers(":".join(tls.ciphers))
    if tls.curve:
        context.set_ecdh_curve(tls.curve)
    context.set_alpn_protocols(["http/1.1"])
    _load_chain(context, tls, file)
    if tls.client_ca is not None:
        key = f"{file}: tls_server_config.client_ca"
        source = tls.client_ca
        data = _bounded(source, f"{key}_file: {source}") if isinstance(source, Path) else source.encode()
        try:
            context.load_verify_locations(cadata=data.decode("ascii", "replace").encode("ascii", "replace").decode())
        except (ssl.SSLError, ValueError):
            raise ConfigError(f"{key}: expected certificates in PEM") from None
        context.verify_mode = tls.client_auth
    if crl is not None:
        with tempfile.NamedTemporaryFile(prefix="pymon-crl-") as made:
            made.write(crl)
            made.flush()
            # A file, because `cadata` accepts certificates only.
            context.load_verify_locations(cafile=made.name)
        context.verify_flags |= ssl.VERIFY_CRL_CHECK_LEAF
    return context

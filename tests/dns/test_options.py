"""Flags of the server, and key files."""

from __future__ import annotations

import base64
import ipaddress

import dns.name
import pytest

from pymon.config import Address, ConfigError, load
from pymon.dns.options import DnsOptions, Secondary, Source, dns_options, parse_secondary, parse_source, typed
from pymon.dns.tsig import LiveKeys, parse_keys

SECRET = "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY="
NAME = dns.name.from_text("key-1.example.")


def loaded(*argv: str) -> DnsOptions:
    return typed(load(dns_options(), argv, {}, program="pymon", description="", version=""))


def key_file(tmp_path, *names: str):
    file = tmp_path / "keys"
    file.write_text("".join(f'key "{name}" {{ algorithm hmac-sha256; secret "{SECRET}"; }};\n' for name in names))
    return file


def test_nothing_is_served_by_default():
    assert loaded() == DnsOptions()


def test_all_that_can_be_said(tmp_path):
    options = loaded(
        "--dns.listen-address=127.0.0.1:9153", "--dns.listen-address=[::1]:9153", "--dns.name-server=ns1.example.com",
        "--dns.reverse=10.0.0.0/8", "--dns.secondary=192.0.2.1 key-1.example", "--dns.transfer-from=2001:db8::/32",
        f"--dns.tsig-key-file={key_file(tmp_path, 'key-1.example', 'key-2.example')}", "--dns.responses-per-second=0",
        "--dns.reverse-ptr-allow=hosts.example.net", "--dns.reverse-ptr-allow=mail.example.org",
    )  # fmt: skip
    assert options.listen_addresses == (Address("127.0.0.1", 9153), Address("::1", 9153))
    assert options.secondaries == (Secondary(Address("192.0.2.1", 53), NAME),)
    assert options.transfer_from == (Source(ipaddress.ip_network("2001:db8::/32"), None),)
    assert [str(name) for name in options.keys] == ["key-1.example.", "key-2.example."]
    assert options.reverse == (ipaddress.ip_network("10.0.0.0/8"),)
    assert options.responses_per_second == 0
    assert options.reverse_ptr_allow == ("hosts.example.net", "mail.example.org")


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("192.0.2.1", Address("192.0.2.1", 53)),
        ("192.0.2.1:5353", Address("192.0.2.1", 5353)),
        ("2001:db8::1", Address("2001:db8::1", 53)),
        ("[2001:db8::1]", Address("2001:db8::1", 53)),
        ("[2001:0db8::1]:5353", Address("2001:db8::1", 5353)),
    ],
)
def test_secondaries(text, address):
    assert parse_secondary(text) == Secondary(address, None)
    assert parse_secondary(f"{text}  key-1.example.") == Secondary(address, NAME)


@pytest.mark.parametrize(
    "text",
    ["", "ns1.example.com", "192.0.2", "192.0.2.1:0", "192.0.2.1:65536", "192.0.2.1:", "[::1", "0.0.0.0", "224.0.0.1",
     "192.0.2.1 .", "192.0.2.1 a..b", "192.0.2.1\0", "192.0.2.1 " + "a" * 64],
)  # fmt: skip
def test_what_is_no_secondary(text):
    with pytest.raises(ValueError, match=r"^an IP address, a :PORT and the name of a key after a space if need be$"):
        parse_secondary(text)


def test_sources():
    assert parse_source("192.0.2.7 key-1.example") == Source(ipaddress.ip_network("192.0.2.7/32"), NAME)
    for text in ("192.0.2.7/24", "any", "192.0.2.0/33", "192.0.2.0/24 a..b"):
        with pytest.raises(ValueError, match="an IP address or a network"):
            parse_source(text)


@pytest.mark.parametrize(
    ("flags", "error"),
    [
        (["--dns.secondary=x"], "--dns.secondary: expected an IP address, .*, got 'x'"),
        (["--dns.transfer-from=x"], "--dns.transfer-from: expected an IP address or a network .*, got 'x'"),
        (["--dns.name-server=a..b"], r"--dns.name-server: expected the name of a server .*, got 'a\.\.b'"),
        (["--dns.name-server=a b"], r"--dns.name-server: expected the name of a server .*, got 'a b'"),
        (["--dns.reverse-ptr-allow=*.example"], r"--dns.reverse-ptr-allow: expected a domain .*, got '\*\.example'"),
        (["--dns.reverse=10.0.0.1/8"], "--dns.reverse: expected a network such as .*, got '10.0.0.1/8'"),
        (["--dns.reverse=10.0.0.0/25"], "dns.reverse: expected an IPv4 prefix of at most 24 bits, got 10.0.0.0/25"),
        (["--dns.responses-per-second=-1"], "--dns.responses-per-second: expected 0 to 1000000, got '-1'"),
        (["--dns.secondary=192.0.2.1 k"], r"dns.secondary: expected a key of dns.tsig-key-file, got k\."),
        (["--dns.transfer-from=192.0.2.1 k"], r"dns.transfer-from: expected a key of dns.tsig-key-file, got k\."),
        (["--dns.secondary=192.0.2.1"],
         r"dns.secondary: expected ADDRESS KEY as dns.tsig-key-file has 2 keys, got 192\.0\.2\.1:53"),
        (["--dns.tsig-key-file=/nowhere/keys"], "/nowhere/keys: cannot be read: No such file or directory"),
    ],
)  # fmt: skip
def test_what_does_not_fit(tmp_path, flags, error):
    if flags == ["--dns.secondary=192.0.2.1"]:
        flags = [*flags, f"--dns.tsig-key-file={key_file(tmp_path, 'a', 'b')}"]
    with pytest.raises(ConfigError, match=f"^{error}$"):
        loaded(*flags)


def test_key_files_as_bind_writes_them():
    text = f"""
        # one comment
        key "key-1.example" {{ // another
            algorithm HMAC-SHA512; /* a third,
            of two lines */ secret "{SECRET}";
        }};
        key key-2.example {{ secret {SECRET}; algorithm "hmac-sha256"; }};
    """
    keys = parse_keys(text, "keys")
    assert [(str(name), str(key.algorithm)) for name, key in keys.items()] == [
        ("key-1.example.", "hmac-sha512."),
        ("key-2.example.", "hmac-sha256."),
    ]
    assert keys[NAME].secret == b"0123456789abcdef0123456789abcdef"


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("", "expected key .*, got nothing"),
        ("options { };", "line 1: expected key"),
        ("\nkey a {\nalgorithm hmac-md5;", "line 3: expected one of hmac-sha256, .*, got 'hmac-md5'"),
        ('key a { algorithm hmac-sha256; secret "c2hvcnQ="; };', "line 1: expected a secret of 16 octets or more .*"),
        ('key a { algorithm hmac-sha256; secret "not base64 at all!"; };', "line 1: expected a secret .* in base64"),
        ("key a { algorithm hmac-sha256; };", r"line 1: expected algorithm and secret in the key a\."),
        (f"key a {{ secret {SECRET};", "line 1: expected algorithm, secret or }, got the end"),
        (f"key a {{ secret {SECRET} }}", "line 1: expected ;"),
        (f"key a {{ secret {SECRET}; secret {SECRET};", "line 1: expected .* each once, got 'secret'"),
        (f"key a {{ {SECRET};", "line 1: expected algorithm and secret, each once"),
        ("key a..b {", "line 1: expected the name of a key, got 'a..b'"),
        ('key "a', "line 1: expected a key, got a quote or a comment without end"),
        ("/* key", "line 1: expected a key, got a quote or a comment without end"),
    ],
)  # fmt: skip
def test_what_is_no_key_file(text, error):
    with pytest.raises(ConfigError, match=f"^keys: {error}$") as caught:
        parse_keys(text, "keys")
    assert "c2hv" not in str(caught.value)
    assert SECRET not in str(caught.value)


def test_a_key_is_given_once():
    key = f"key a {{ algorithm hmac-sha256; secret {SECRET}; }};\n"
    with pytest.raises(ConfigError, match=r"^keys: line 2: expected each key once, got 'A\.'$"):
        parse_keys(key + key.replace("key a", 'key "A."'), "keys")


def test_keys_are_read_again_and_whoever_holds_one_uses_its_new_secret(tmp_path):
    def line(name: str, secret: bytes, algorithm: str = "hmac-sha256") -> str:
        return f'key "{name}" {{ algorithm {algorithm}; secret "{base64.b64encode(secret).decode()}"; }};'

    def wants_a(keys):
        if dns.name.from_text("a") not in keys:
            yield "dns.register: expected a"

    file = tmp_path / "keys"
    file.write_text(line("a", b"1" * 16) + line("b", b"2" * 16))
    keys = LiveKeys(file, wants_a)
    a, b, c = (dns.name.from_text(name) for name in "abc")
    held = keys[a]
    assert not keys.refresh()
    file.write_text(line("a", b"3" * 16, "hmac-sha512") + line("c", b"4" * 16))
    assert keys.refresh()
    assert held is keys[a]
    assert (held.secret, held.algorithm, keys[c].secret) == (b"3" * 16, dns.tsig.HMAC_SHA512, b"4" * 16)
    assert b not in keys
    for bad, problem in {
        "": "expected key",
        line("b", b"5" * 16): f"{file}: dns.register: expected a",
        line("a", b"5" * 4): "expected a secret",
    }.items():
        file.write_text(bad)
        with pytest.raises(ConfigError, match=problem):
            keys.refresh()
    file.unlink()
    with pytest.raises(ConfigError, match="cannot be read"):
        keys.refresh()
    assert (held.secret, set(keys)) == (b"3" * 16, {a, c})

"""Certificates that are malformed, mutated, huge or no certificates at all: a reason for each, at once."""

from __future__ import annotations

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pymon.directory.model import Snapshot
from pymon.proxy.authn import REASONS, AuthError
from pymon.proxy.certificates import parse_certificate
from tests.proxy.certificate_judge import ALICE, built, judge, reason, registered, snapshot, ssh_key
from tests.proxy.certs import CMON, SSHPair, Workshop, der_of


def length(size: int) -> bytes:
    octets = size.to_bytes((size.bit_length() + 7) // 8 or 1, "big")
    return octets if size < 128 else bytes([0x80 | len(octets)]) + octets


def tlv(tag: int, *content: bytes) -> bytes:
    body = b"".join(content)
    return bytes([tag]) + length(len(body)) + body


def extension(oid: bytes, value: bytes) -> bytes:
    return tlv(0x30, tlv(0x06, oid), tlv(0x04, value))


EKU = b"\x55\x1d\x25"


def with_extensions(der: bytes, *extensions: bytes) -> bytes:
    """The certificate with other extensions, and so with a wrong signature."""
    whole = x509.load_der_x509_certificate(der)
    tbs = whole.tbs_certificate_bytes
    body = tbs[4:] if tbs[1] == 0x82 else tbs[3:]
    fields, at = [], 0
    while at < len(body):
        size, header = body[at + 1], 2
        if size >= 128:
            header += size - 128
            size = int.from_bytes(body[at + 2 : at + header], "big")
        fields.append(body[at : at + header + size])
        at += header + size
    kept = [field for field in fields if field[0] != 0xA3]
    rest = der[der.index(tbs) + len(tbs) :]
    return tlv(0x30, tlv(0x30, *kept, tlv(0xA3, tlv(0x30, *extensions))), rest)


@pytest.mark.parametrize(
    "extensions",
    [
        [extension(EKU, b"garbage")],
        [extension(EKU, b"")],
        [extension(EKU, tlv(0x30, tlv(0x06, b"\x2a")) + b"\0")],
        [extension(EKU, tlv(0x30, tlv(0x02, b"\x2a")))],
        [extension(EKU, tlv(0x30, tlv(0x06, b"\x2a")))] * 2,
        [b"garbage"],
        [tlv(0x30)],
        [tlv(0x30, tlv(0x06, EKU))],
        [tlv(0x30, tlv(0x06, EKU), tlv(0x01, b"\xff"), tlv(0x01, b"\xff"), tlv(0x04))],
        [extension(b"\x2a", b"")] * 65,
    ],
)
def test_extensions_that_cannot_be_read_are_malformed(extensions, pair):
    der = built(pair, ec.generate_private_key(ec.SECP256R1()).public_key())
    assert reason(with_extensions(der, *extensions), snapshot(ssh_key(pair.public))) == "malformed"


def test_what_other_extensions_say_is_nobodys_business(workshop, pair):
    extensions = f"""\
extendedKeyUsage = {CMON}
keyUsage = DER:FF:FF:FF
basicConstraints = critical,DER:00
subjectAltName = DER:30:80
1.2.3.4 = critical,DER:{"AB:" * 2000}AB
"""
    der = der_of(workshop.cmon(pair, extensions=extensions))
    assert judge(der, snapshot(ssh_key(pair.public)))


def test_a_huge_certificate_is_malformed_at_once(workshop, pair):
    extensions = f"extendedKeyUsage = {CMON}\n1.2.3.4 = DER:{':'.join(['AB'] * 60_000)}"
    der = der_of(workshop.cmon(pair, extensions=extensions))
    assert len(der) > 60_000
    assert reason(der, snapshot(ssh_key(pair.public))) == "malformed"


@pytest.mark.parametrize(
    "der",
    [
        b"",
        b"0",
        b"\x30\x00",
        b"\x30\x80",
        b"\x30\x84\0\0\0\0",
        b"\x30\xff" + b"\xff" * 200,
        b"\x1f\x81\x01\0",
        b"x" * 20_000,
    ],
)
def test_what_is_no_certificate_is_malformed(der):
    assert reason(der, snapshot()) == "malformed"


def test_lengths_are_the_shortest(workshop, pair):
    der = der_of(workshop.cmon(pair))
    directory = snapshot(ssh_key(pair.public))
    assert der[:2] == b"\x30\x82"
    assert reason(b"\x30\x83\0" + der[2:], directory) == "malformed"
    assert reason(der + b"\0", directory) == "malformed"
    assert reason(der[:-1], directory) == "malformed"


@pytest.fixture(scope="module")
def genuine(workshop: Workshop, pairs: dict[str, SSHPair]) -> tuple[list[bytes], Snapshot]:
    ders = [der_of(workshop.cmon(pair)) for pair in pairs.values()]
    ders += [der_of(workshop.certificate("alice", pair.pem)) for pair in pairs.values()]
    ders.append(der_of(workshop.certificate("alice", workshop.key())))
    keys = (ssh_key(pair.public) for pair in pairs.values())
    return ders, snapshot(*keys, certificates=(registered(ders[-1]),))


@settings(max_examples=600, deadline=None, database=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_mutated_certificate_is_refused_with_a_reason(data, genuine):
    ders, directory = genuine
    der = bytearray(data.draw(st.sampled_from(ders)))
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(der) - 1))
        match data.draw(st.sampled_from(("set", "flip", "insert", "delete", "copy", "cut"))):
            case "set":
                der[at] = data.draw(st.sampled_from((0, 1, 2, 3, 0x06, 0x1F, 0x30, 0x7F, 0x80, 0x81, 0x82, 0x84, 0xFF)))
            case "flip":
                der[at] ^= 1 << data.draw(st.integers(0, 7))
            case "insert":
                der[at:at] = data.draw(st.binary(min_size=1, max_size=8))
            case "delete":
                del der[at : at + data.draw(st.integers(1, 8))]
            case "copy":
                end = at + data.draw(st.integers(1, 300))
                der[at:at] = der[at:end]
            case "cut":
                del der[at:]
        if not der:
            break
    mutated = bytes(der)
    if mutated in ders:
        return
    try:
        principal = judge(mutated, directory)
    except AuthError as error:
        assert error.reason in REASONS  # noqa: PT017
    else:  # an ECDSA signature has more than one encoding, and the outside of a certificate is not signed
        signed = {parse_certificate(der).signed for der in ders}
        assert parse_certificate(mutated).signed in signed
        assert principal.account == ALICE.uuid


@settings(max_examples=300, deadline=None, database=None)
@given(st.binary(max_size=300) | st.binary(max_size=300).map(lambda content: tlv(0x30, content)))
def test_any_bytes_are_refused_with_a_reason(data):
    assert reason(data, snapshot()) == "malformed"

"""Client certificates of all kinds, made by the programs that make them, and everything that is wrong with others."""

from __future__ import annotations

import base64
import datetime as dt
import math
import os
import shutil
import ssl
from collections.abc import Iterator
from dataclasses import replace

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from pymon.directory.authority import Authority
from pymon.directory.sshkey import PublicKey, parse_public_key
from pymon.proxy import authn
from pymon.proxy.authn import Authenticator, AuthError, Principal
from pymon.proxy.certificates import parse_certificate, ssh_fingerprint
from tests.proxy.certificate_judge import (
    ALICE,
    BOB,
    CLIENT,
    DAY,
    NOW,
    SSHPK_NOW,
    built,
    judge,
    reason,
    registered,
    snapshot,
    ssh_key,
)
from tests.proxy.certs import CMON, DOCKER, SSH_KINDS, SSHPK, der_of, run

# --- Triton's certificate for Container Monitor ---


@pytest.mark.parametrize("kind", SSH_KINDS)
def test_a_cmon_certificate_signed_by_an_ssh_key_is_its_account(kind, workshop, pairs):
    der = der_of(workshop.cmon(pairs[kind]))
    assert parse_certificate(der).issuer == pairs[kind].sshpk_md5
    principal = judge(der, snapshot(*(ssh_key(pair.public) for pair in pairs.values())))
    assert (principal.account, principal.name, principal.operator) == (ALICE.uuid, "alice", False)
    assert principal.method == "ssh-certificate"
    assert principal.expires_at == pytest.approx(NOW + 3650 * DAY, abs=3600)


@pytest.mark.parametrize(
    ("file", "key"),
    [("cmon-rsa", "rsa"), ("cmon-ecdsa", "ecdsa"), ("cmon-ed25519", "ed25519"), ("cmon-century-rsa", "rsa")],
)
def test_a_certificate_of_node_sshpk_is_taken(file, key):
    directory = snapshot(ssh_key(parse_public_key((SSHPK / f"{key}.pub").read_text())))
    der = der_of(SSHPK / f"{file}.pem")
    assert judge(der, directory, now=SSHPK_NOW).method == "ssh-certificate"
    assert reason(der, directory, now=SSHPK_NOW + 200 * 365 * DAY) == "expired"
    assert reason(der, snapshot(), now=SSHPK_NOW) == "unknown_key"


def test_other_certificates_of_node_sshpk():
    directory = snapshot(ssh_key(parse_public_key((SSHPK / "rsa.pub").read_text())))
    assert judge(der_of(SSHPK / "self-rsa.pem"), directory, now=SSHPK_NOW).method == "ssh-certificate"
    assert reason(der_of(SSHPK / "docker-rsa.pem"), directory, now=SSHPK_NOW) == "wrong_eku"


@pytest.mark.parametrize("days", [30, 20_000])
def test_validity_in_both_forms_of_time_is_enforced(days, workshop, pair):
    der = der_of(workshop.cmon(pair, days=days))
    parsed = parse_certificate(der)
    dates = run("openssl", "x509", "-inform", "DER", "-noout", "-dates", "-dateopt", "iso_8601", data=der).decode()
    wanted = [dt.datetime.fromisoformat(line.partition("=")[2]).timestamp() for line in dates.split("\n") if line]
    assert [parsed.not_before, parsed.not_after] == wanted
    directory = snapshot(ssh_key(pair.public))
    assert reason(der, directory, now=parsed.not_before - 1) == "not_yet_valid"
    assert judge(der, directory, now=parsed.not_before)
    assert judge(der, directory, now=parsed.not_after - 1)
    assert reason(der, directory, now=parsed.not_after) == "expired"
    assert reason(der, directory, now=parsed.not_after, lenient=True) == "expired"


def fingerprint_forms(public: PublicKey) -> Iterator[str]:
    digest = bytes.fromhex(public.md5)
    yield "MD5:" + base64.b64encode(digest).decode()
    yield public.md5
    yield public.md5.upper()
    yield digest.hex(":")
    yield "MD5:" + digest.hex(":")
    yield public.sha256
    yield public.sha256 + "="


def test_the_issuer_names_the_key_in_any_form(workshop, pair):
    for form in fingerprint_forms(pair.public):
        assert judge(der_of(workshop.cmon(pair, issuer=form)), snapshot(ssh_key(pair.public))), form


@pytest.mark.parametrize("issuer", ["alice", "My SSH key", "bob"])
def test_an_issuer_that_names_no_key_is_found_by_its_signature(issuer, workshop, pairs):
    pair = pairs["rsa-2048"]
    der = der_of(workshop.cmon(pair, issuer=issuer))
    every = [ssh_key(other.public) for other in pairs.values()]
    assert judge(der, snapshot(*every)).method == "ssh-certificate"
    assert reason(der, snapshot(*every), now=NOW + 3651 * DAY, lenient=True) == "expired"
    others = [key for key in every if key.public_key != pair.public.text]
    assert reason(der, snapshot(*others, ssh_key(pair.public, BOB))) == "unknown_key"
    assert reason(der, snapshot(*others, ssh_key(pair.public, revoked_at=1.0))) == "revoked"
    plain = der_of(workshop.cmon(pair, issuer=issuer, extensions=CLIENT))
    assert reason(plain, snapshot(*every)) == ("unknown_key" if issuer == "alice" else "unknown_certificate")


def test_no_more_keys_than_a_bound_are_tried(workshop, pairs, monkeypatch):
    der = der_of(workshop.cmon(pairs["rsa-2048"], issuer="any"))
    gone = ssh_key(pairs["ecdsa-256"].public, revoked_at=1.0)
    monkeypatch.setattr(authn, "MAX_TRIED_KEYS", 1)
    assert judge(der, snapshot(ssh_key(pairs["rsa-2048"].public), gone))
    assert reason(der, snapshot(ssh_key(pairs["rsa-2048"].public), ssh_key(pairs["ed25519"].public))) == "unknown_key"


@pytest.mark.parametrize(
    "text", ["", "MD5:", "MD5:AAAA", "SHA256:" + "A" * 22, "MD5:" + "A" * 43, "ab" * 15, "ab" * 20]
)
def test_what_is_no_fingerprint(text):
    assert ssh_fingerprint(text) is None


def test_a_self_signed_certificate_for_container_monitor_keeps_its_end(workshop, pair):
    der = der_of(workshop.certificate("alice", pair.pem, extensions=f"extendedKeyUsage = {CMON}"))
    directory = snapshot(ssh_key(pair.public))
    assert judge(der, directory).method == "ssh-certificate"
    assert reason(der, directory, now=NOW + 400 * DAY, lenient=True) == "expired"


def test_a_key_of_another_account_signs_for_nobody_else(workshop, pair):
    der = der_of(workshop.cmon(pair, "alice"))
    assert reason(der, snapshot(ssh_key(pair.public, BOB))) == "unknown_key"
    assert judge(der_of(workshop.cmon(pair, "bob")), snapshot(ssh_key(pair.public, BOB))).operator


def test_a_signature_of_another_key_is_seen(workshop, pairs):
    pair, other = pairs["ecdsa-256"], pairs["ecdsa-384"]
    der = der_of(workshop.cmon(other, issuer=pair.sshpk_md5))
    assert reason(der, snapshot(ssh_key(pair.public), ssh_key(other.public))) == "bad_signature"


def test_a_signature_by_a_key_of_another_type_is_seen(workshop, pairs):
    der = der_of(workshop.cmon(pairs["ed25519"], issuer=pairs["rsa-2048"].sshpk_md5))
    assert reason(der, snapshot(ssh_key(pairs["rsa-2048"].public))) == "bad_signature"


@pytest.mark.parametrize("digest", ["-sha384", "-sha512"])
def test_longer_digests_are_taken(digest, workshop, pairs):
    for kind in ("rsa-2048", "ecdsa-256"):
        der = der_of(workshop.cmon(pairs[kind], options=(digest,)))
        assert judge(der, snapshot(ssh_key(pairs[kind].public)))


@pytest.mark.parametrize("options", [("-sha1",), ("-md5",), ("-sha256", "-sigopt", "rsa_padding_mode:pss")])
def test_other_signatures_are_refused(options, workshop, pairs):
    pair = pairs["rsa-2048"]
    assert reason(der_of(workshop.cmon(pair, options=options)), snapshot(ssh_key(pair.public))) == "bad_signature"


def test_a_removed_or_revoked_key_revokes_at_once(workshop, pair):
    der = der_of(workshop.cmon(pair))
    directory = snapshot(ssh_key(pair.public))
    authenticator = Authenticator(lambda: directory, clock=lambda: NOW)
    principal = authenticator.certificate(der)
    assert authenticator.known(der) is principal
    for keys, expected in (((), "unknown_key"), ((ssh_key(pair.public, revoked_at=NOW),), "revoked")):
        directory = snapshot(*keys)
        assert authenticator.known(der) is None
        for _ in range(2):
            with pytest.raises(AuthError, match=expected):
                authenticator.certificate(der)
        assert authenticator.known(der) is None
    directory = snapshot(ssh_key(pair.public, revoked_at=NOW), ssh_key(pair.public))
    assert authenticator.certificate(der) == principal
    authenticator.close()


@pytest.mark.parametrize("purposes", [f"clientAuth, {DOCKER}", "clientAuth", "anyExtendedKeyUsage", "serverAuth", None])
def test_a_key_signs_for_container_monitor_alone(purposes, workshop, pair):
    extensions = f"extendedKeyUsage = {purposes}" if purposes else "keyUsage = digitalSignature"
    der = der_of(workshop.cmon(pair, extensions=extensions))
    assert reason(der, snapshot(ssh_key(pair.public))) == "wrong_eku"


@pytest.mark.parametrize(
    ("algorithm", "option"), [("RSA", "rsa_keygen_bits:1024"), ("EC", "ec_paramgen_curve:secp224r1"), ("X25519", "")]
)
def test_a_weak_key_is_refused_though_an_ssh_key_signed_it(algorithm, option, workshop, pair):
    key = workshop.key(algorithm, option)
    if algorithm == "X25519":  # signs no request
        certificate = built(pair, load_pem_private_key(key.read_bytes(), None).public_key())
    else:
        certificate = der_of(
            workshop.certificate("alice", key, issuer=pair.sshpk_md5, signer=pair.pem, extensions=CLIENT)
        )
    assert reason(certificate, snapshot(ssh_key(pair.public))) == "weak_key"


@pytest.mark.parametrize(
    ("algorithm", "option"),
    [
        ("RSA", "rsa_keygen_bits:2048"),
        ("RSA-PSS", "rsa_keygen_bits:2048"),
        ("EC", "ec_paramgen_curve:P-521"),
        ("ED25519", ""),
        ("ED448", ""),
    ],
)
def test_the_throw_away_key_may_be_of_any_strong_kind(algorithm, option, workshop, pair):
    key = workshop.key(algorithm, option)
    extensions = f"extendedKeyUsage = {CMON}"
    der = der_of(workshop.certificate("alice", key, issuer=pair.sshpk_md5, signer=pair.pem, extensions=extensions))
    assert judge(der, snapshot(ssh_key(pair.public)))


def test_a_certificate_of_cryptography_is_taken(pair):
    der = built(pair, ec.generate_private_key(ec.SECP256R1()).public_key())
    assert judge(der, snapshot(ssh_key(pair.public))).name == "alice"


@pytest.mark.skipif(shutil.which("certtool") is None, reason="certtool (gnutls-bin) is not installed")
@pytest.mark.parametrize("kind", ["rsa-2048", "ecdsa-384"])
def test_a_certificate_of_gnutls_is_taken(kind, workshop, pairs):
    pair = pairs[kind]
    template, authority, made = (workshop.new(suffix) for suffix in (".cfg", ".pem", ".pem"))
    template.write_text(f'cn = "{pair.sshpk_md5}"\nca\nexpiration_days = 100\n')
    run(
        "certtool", "--generate-self-signed", "--load-privkey", pair.pem, "--template", template, "--outfile", authority
    )
    template.write_text(f'cn = "alice"\ntls_www_client\nkey_purpose_oid = {CMON}\nexpiration_days = 50\n')
    run(
        *("certtool", "--generate-certificate", "--load-privkey", workshop.key(), "--load-ca-certificate", authority),
        *("--load-ca-privkey", pair.pem, "--template", template, "--outfile", made),
    )
    assert judge(der_of(made), snapshot(ssh_key(pair.public))).method == "ssh-certificate"


# --- Triton's older, self-signed certificate ---


@pytest.mark.parametrize("kind", SSH_KINDS)
@pytest.mark.parametrize("extensions", ["", CLIENT, "extendedKeyUsage = anyExtendedKeyUsage"])
def test_a_self_signed_certificate_of_an_ssh_key_is_its_account(kind, extensions, workshop, pairs):
    der = der_of(workshop.certificate("alice", pairs[kind].pem, extensions=extensions))
    directory = snapshot(*(ssh_key(pair.public) for pair in pairs.values()))
    assert judge(der, directory).method == "ssh-certificate"
    assert reason(der, snapshot()) == "unknown_key"


def test_an_old_certificate_may_expire_when_that_is_switched_on(workshop, pair):
    der = der_of(workshop.certificate("alice", pair.pem))
    directory = snapshot(ssh_key(pair.public))
    assert reason(der, directory, now=NOW + 400 * DAY) == "expired"
    assert judge(der, directory, now=NOW + 400 * DAY, lenient=True).expires_at == math.inf
    assert reason(der, directory, now=NOW - DAY, lenient=True) == "not_yet_valid"


def test_a_self_signed_certificate_is_looked_at_for_its_usage_and_revocation(workshop, pair):
    der = der_of(workshop.certificate("alice", pair.pem, extensions="extendedKeyUsage = serverAuth"))
    assert reason(der, snapshot(ssh_key(pair.public))) == "wrong_eku"
    der = der_of(workshop.certificate("alice", pair.pem))
    assert reason(der, snapshot(ssh_key(pair.public, revoked_at=1.0))) == "revoked"


def test_a_certificate_that_only_looks_self_signed_is_seen(workshop, pairs):
    victim, attacker = pairs["ecdsa-256"], pairs["ecdsa-384"]
    request = workshop.certificate("alice", victim.pem)
    forged = workshop.new(".pem")
    issuer = workshop.certificate("alice", attacker.pem)
    public = workshop.new(".pem")
    public.write_bytes(run("openssl", "x509", "-in", request, "-noout", "-pubkey"))
    run(
        *("openssl", "x509", "-new", "-force_pubkey", public, "-subj", "/CN=alice", "-CA", issuer, "-CAkey"),
        *(attacker.pem, "-set_serial", "1", "-out", forged),
    )
    assert reason(der_of(forged), snapshot(ssh_key(victim.public))) == "bad_signature"


# --- registered certificates ---


def test_a_registered_certificate_is_its_account_whoever_signed_it(workshop, pair):
    der = der_of(workshop.certificate("alice", workshop.key(), issuer="Some CA", signer=pair.pem))
    assert reason(der, snapshot()) == "unknown_certificate"
    assert judge(der, snapshot(certificates=(registered(der),))).method == "certificate"
    assert reason(der, snapshot(certificates=(registered(der, revoked_at=1.0),))) == "revoked"
    assert reason(der, snapshot(certificates=(registered(der, BOB),))) == "unknown_certificate"
    assert reason(der, snapshot(certificates=(registered(der),)), now=NOW + 400 * DAY, lenient=True) == "expired"


def test_a_registered_self_signed_certificate_may_expire_when_that_is_switched_on(workshop):
    der = der_of(workshop.certificate("alice", workshop.key()))
    directory = snapshot(certificates=(registered(der),))
    assert reason(der, directory, now=NOW + 400 * DAY) == "expired"
    assert judge(der, directory, now=NOW + 400 * DAY, lenient=True).method == "certificate"


def test_a_registered_certificate_for_servers_alone_is_refused(workshop):
    der = der_of(workshop.certificate("alice", workshop.key(), extensions="extendedKeyUsage = serverAuth"))
    assert reason(der, snapshot(certificates=(registered(der),))) == "wrong_eku"


def test_a_certificate_of_the_authority(tmp_path):
    authority, other = (Authority.load_or_create(tmp_path / name) for name in ("authority", "other"))
    der = ssl.PEM_cert_to_DER_cert(authority.issue_client("alice", 30)[0].decode())
    issued = registered(der, issued=True)
    directory = snapshot(certificates=(issued,), authority=authority.der)
    principal = judge(der, directory)
    assert principal == Principal(
        ALICE.uuid, "alice", operator=False, method="certificate", expires_at=issued.not_after
    )
    assert reason(der, directory, now=issued.not_after) == "expired"
    assert reason(der, directory, now=issued.not_before - 1) == "not_yet_valid"
    assert reason(der, snapshot(authority=authority.der)) == "unknown_certificate"
    assert reason(der, replace(directory, authority=other.der)) == "bad_signature"
    for unusable in (None, b"", b"garbage"):
        assert reason(der, replace(directory, authority=unusable)) == "bad_signature"
    assert reason(der, replace(directory, certificates={der: replace(issued, revoked_at=1.0)})) == "unknown_certificate"
    assert reason(der, snapshot(certificates=(replace(issued, revoked_at=1.0),), authority=authority.der)) == "revoked"


def test_an_authority_that_has_expired_takes_its_certificates_along(workshop):
    key = workshop.key()
    authority = der_of(workshop.certificate("authority", key, days=10))
    der = der_of(workshop.certificate("alice", workshop.key(), issuer="authority", signer=key, days=1000))
    directory = snapshot(certificates=(registered(der, issued=True),), authority=authority)
    assert judge(der, directory).expires_at == pytest.approx(NOW + 10 * DAY, abs=3600)
    assert reason(der, directory, now=NOW + 11 * DAY) == "expired"


# --- names ---


@pytest.mark.parametrize(
    "subject",
    [
        "carol",
        "Alice",
        "alice ",
        "",
        "/O=alice",
        "/CN=alice/CN=bob",
        "/CN=bob+CN=alice",
        "/CN=\u00e4lice",
        "/CN=alice\\/x",
    ],
)
def test_only_one_exact_common_name_is_an_account(subject, workshop, pair):
    der = der_of(workshop.cmon(pair, subject or "/"))
    assert reason(der, snapshot(ssh_key(pair.public))) == "unknown_account"


@pytest.mark.parametrize(
    ("mask", "tag"),
    [("utf8only", 0x0C), ("nombstr", 0x13), ("MASK:0x4", 0x14), ("MASK:0x800", 0x1E)],
)
def test_the_name_may_be_of_any_string_type(mask, tag, workshop, pair):
    config, request, made, issuer = (workshop.new(suffix) for suffix in (".cnf", ".csr", ".pem", ".pem"))
    config.write_text(
        f"[req]\ndistinguished_name = name\nstring_mask = {mask}\n[name]\n[x]\nextendedKeyUsage = {CMON}\n"
    )
    subject = ("-subj", "/O=Somewhere/CN=alice/OU=More")
    run("openssl", "req", "-new", "-config", config, "-key", workshop.key(), *subject, "-out", request)
    name = ("-subj", "/CN=" + pair.public.md5)
    run("openssl", "req", "-x509", "-new", "-config", config, "-key", pair.pem, *name, "-out", issuer)
    run(
        *("openssl", "x509", "-req", "-in", request, "-CA", issuer, "-CAkey", pair.pem, "-set_serial", "1"),
        *("-extfile", config, "-extensions", "x", "-out", made),
    )
    der = der_of(made)
    assert der[der.index(b"\x06\x03\x55\x04\x03", der.index(b"\x06\x03\x55\x04\x0a")) + 5] == tag
    assert judge(der, snapshot(ssh_key(pair.public))).name == "alice"


# --- what is remembered ---


def test_validity_is_looked_at_each_time(workshop, pair):
    der = der_of(workshop.cmon(pair))
    parsed = parse_certificate(der)
    now = parsed.not_before - 1
    directory = snapshot(ssh_key(pair.public))
    authenticator = Authenticator(lambda: directory, clock=lambda: now)
    with pytest.raises(AuthError, match="not_yet_valid"):
        authenticator.certificate(der)
    now = parsed.not_after - 1
    assert authenticator.known(der) is None
    assert authenticator.certificate(der) is authenticator.known(der)
    now = parsed.not_after
    assert authenticator.known(der) is None
    with pytest.raises(AuthError, match="expired"):
        authenticator.certificate(der)
    authenticator.close()


def test_a_good_certificate_is_judged_once(workshop, pair, monkeypatch):
    calls: list[bytes] = []

    def parse(der):
        calls.append(der)
        return parse_certificate(der)

    monkeypatch.setattr(authn, "parse_certificate", parse)
    good, bad = der_of(workshop.cmon(pair)), der_of(workshop.cmon(pair, "carol"))
    directory = snapshot(ssh_key(pair.public))
    authenticator = Authenticator(lambda: directory, clock=lambda: NOW)
    for _ in range(3):
        authenticator.certificate(good)
        with pytest.raises(AuthError) as caught:
            authenticator.certificate(bad)
        assert str(caught.value) == "unknown_account: certificate of 'carol'"
    assert calls == [good, bad, bad, bad]
    directory = snapshot(ssh_key(pair.public))
    authenticator.certificate(good)
    assert calls == [good, bad, bad, bad, good]
    authenticator.close()


def test_memory_is_bounded(workshop, pair, monkeypatch):
    monkeypatch.setattr(authn, "MAX_REMEMBERED", 2)
    directory = snapshot(ssh_key(pair.public))
    authenticator = Authenticator(lambda: directory, clock=lambda: NOW)
    first, second, third = ders = [der_of(workshop.cmon(pair)) for _ in range(3)]
    for der in ders[:2]:
        authenticator.certificate(der)
    assert authenticator.known(first)
    authenticator.certificate(third)
    assert [authenticator.known(der) is not None for der in (first, second, third)] == [True, False, True]
    for size in range(10):
        with pytest.raises(AuthError):
            authenticator.certificate(os.urandom(size * 1000))
    assert authenticator.known(third)
    authenticator.close()


def test_a_damaged_key_of_the_directory_is_left_out(workshop, pair, caplog):
    damaged = replace(ssh_key(pair.public), fingerprint="SHA256:x", md5="0" * 32, public_key="ssh-rsa AAAA")
    der = der_of(workshop.cmon(pair))
    assert judge(der, snapshot(damaged, ssh_key(pair.public)))
    assert [record.getMessage() for record in caplog.records] == ["SSH key 'SHA256:x' of the directory is not usable"]

"""SSH public keys, as ssh-keygen makes and shows them."""

from __future__ import annotations

import base64
import shutil
import struct
import subprocess
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from hypothesis import given, settings
from hypothesis import strategies as st

from pymon.directory.sshkey import PublicKey, parse_public_key

KEYGEN = shutil.which("ssh-keygen")
KINDS = [("rsa", "2048"), ("rsa", "3072"), ("ecdsa", "256"), ("ecdsa", "384"), ("ecdsa", "521"), ("ed25519", "256")]
ED25519 = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl"


def make(folder: Path, kind: str, bits: str, comment: str = "who@where") -> Path:
    if KEYGEN is None:
        pytest.skip("needs ssh-keygen")
    file = folder / "key"
    subprocess.run([KEYGEN, "-q", "-t", kind, "-b", bits, "-N", "", "-C", comment, "-f", file], check=True)
    return file.with_suffix(".pub")


def shown(file: Path, kind: str) -> str:
    text = subprocess.run([KEYGEN, "-l", "-E", kind, "-f", file], check=True, capture_output=True, text=True).stdout
    return text.split()[1]


@pytest.mark.parametrize(("kind", "bits"), KINDS)
def test_keys_of_ssh_keygen(tmp_path: Path, kind: str, bits: str) -> None:
    file = make(tmp_path, kind, bits)
    key = parse_public_key(file.read_text())
    assert key.sha256 == shown(file, "sha256")
    assert "MD5:" + ":".join(key.md5[i : i + 2] for i in range(0, 32, 2)) == shown(file, "md5")
    assert key.comment == "who@where"
    assert file.read_text().strip() == f"{key.text} who@where"
    assert isinstance(key.load(), rsa.RSAPublicKey | ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey)


def test_a_short_rsa_key_is_refused(tmp_path: Path) -> None:
    file = make(tmp_path, "rsa", "1024")
    with pytest.raises(ValueError, match="RSA of 2048 to 16384 bits, got 1024"):
        parse_public_key(file.read_text())


def test_a_private_key_is_refused_without_being_shown(tmp_path: Path) -> None:
    file = make(tmp_path, "ed25519", "256")
    with pytest.raises(ValueError, match="got a private one") as caught:
        parse_public_key(file.with_suffix("").read_text())
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "got 0 lines"),
        ("# only a comment\n", "got 0 lines"),
        (f"{ED25519} a\n{ED25519} b\n", "got 2 lines"),
        ("hello", "expected a key of ssh-rsa"),
        ("ssh-dss AAAAB3NzaC1kc3MAAACBAN", "expected a key of ssh-rsa"),
        ("sk-ssh-ed25519@openssh.com AAAA", "expected a key of ssh-rsa"),
        ('command="x" ' + ED25519, "expected a key of ssh-rsa"),
        ("ssh-ed25519", "not a usable key"),
        ("ssh-ed25519 ????", "not a usable key"),
        (ED25519[:-4], "not a usable key"),
        (ED25519.replace("ssh-ed25519", "ssh-rsa"), "not a usable key"),
        ("x" * 20000, "more than 16384"),
    ],
)
def test_what_is_no_key(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        parse_public_key(text)
    assert "\n" not in str(caught.value)


def string(data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + data


@pytest.mark.parametrize("junk", [b"\0", string(b"more")])
def test_one_key_has_one_fingerprint(junk: bytes) -> None:
    blob = base64.b64decode(ED25519.split()[1]) + junk
    with pytest.raises(ValueError, match="not a usable key"):
        parse_public_key(f"ssh-ed25519 {base64.b64encode(blob).decode()}")


def test_a_number_with_zeros_in_front_is_another_blob_of_the_same_key() -> None:
    numbers = rsa.generate_private_key(65537, 2048).public_key().public_numbers()
    modulus = b"\0" + numbers.n.to_bytes(256, "big")
    good = string(b"ssh-rsa") + string(b"\1\0\1") + string(modulus)
    bad = string(b"ssh-rsa") + string(b"\1\0\1") + string(b"\0\0" + modulus)
    parse_public_key(f"ssh-rsa {base64.b64encode(good).decode()}")
    with pytest.raises(ValueError, match="not a usable key"):
        parse_public_key(f"ssh-rsa {base64.b64encode(bad).decode()}")


def test_a_comment_can_be_shown() -> None:
    assert parse_public_key(f"{ED25519} \x1b[31m a\u202eb " + "x" * 500).comment.startswith("?[31m a?b xxx")
    assert len(parse_public_key(f"{ED25519} " + "x" * 500).comment) == 200
    assert parse_public_key(f"\r\n{ED25519}\r\n").comment == ""


@settings(max_examples=300)
@given(
    st.sampled_from(["ssh-rsa", "ecdsa-sha2-nistp256", "ssh-ed25519"]),
    st.binary(max_size=400)
    | st.lists(st.binary(max_size=300), max_size=4).map(lambda parts: b"".join(map(string, parts))),
)
def test_any_blob_is_a_key_or_a_value_error(kind: str, blob: bytes) -> None:
    for data in (blob, string(kind.encode()) + blob):
        try:
            key = parse_public_key(f"{kind} {base64.b64encode(data).decode()}")
        except ValueError:
            continue
        assert isinstance(key, PublicKey)
        key.load()


@given(st.text())
def test_any_text_is_a_key_or_a_value_error(text: str) -> None:
    with pytest.raises(ValueError, match="expected"):
        parse_public_key(text)


def test_an_ecdsa_key_with_a_compressed_point_is_refused_in_one_line():
    key = ec.generate_private_key(ec.SECP256R1()).public_key()
    point = key.public_bytes(serialization.Encoding.X962, serialization.PublicFormat.CompressedPoint)
    parts = (b"ecdsa-sha2-nistp256", b"nistp256", point)
    blob = b"".join(len(part).to_bytes(4, "big") + part for part in parts)
    with pytest.raises(ValueError, match="expected a key whose point is not compressed"):
        parse_public_key(f"ecdsa-sha2-nistp256 {base64.b64encode(blob).decode()} me")

"""Keys and certificates made by the programs that make them in life: ssh-keygen, openssl, certtool.

tests/proxy/sshpk holds certificates that node-sshpk 1.18.0 made with `createCertificate`, as Triton's tools call it,
and the SSH public keys that signed them: cmon-* with the purposes signature, identity, clientAuth and joyentCmon,
docker-* with joyentDocker, self-* self-signed.
"""

from __future__ import annotations

import re
import shutil
import ssl
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_ssh_private_key,
)

from pymon.directory.sshkey import PublicKey, parse_public_key

SSHPK = Path(__file__).parent / "sshpk"

CMON = "1.3.6.1.4.1.38678.1.4.2"
DOCKER = "1.3.6.1.4.1.38678.1.4.1"

SSH_KINDS = ("rsa-2048", "rsa-4096", "ecdsa-256", "ecdsa-384", "ecdsa-521", "ed25519")


def require_programs() -> None:
    """Skip without the programs that make everything here."""
    for program in ("openssl", "ssh-keygen"):
        if shutil.which(program) is None:
            pytest.skip(f"{program} is not installed")


def run(*command: str | Path, data: bytes | None = None) -> bytes:
    done = subprocess.run(command, input=data, capture_output=True, check=False)
    assert done.returncode == 0, (command, done.stderr.decode())
    return done.stdout


def der_of(pem: Path) -> bytes:
    return ssl.PEM_cert_to_DER_cert(pem.read_text())


@dataclass(frozen=True)
class SSHPair:
    """A pair of ssh-keygen's. pem: the private key as openssl reads it."""

    pem: Path
    public: PublicKey

    @property
    def sshpk_md5(self) -> str:
        """The fingerprint as node-sshpk writes it."""
        text = run("ssh-keygen", "-l", "-E", "md5", "-f", "/dev/stdin", data=self.public.text.encode()).decode()
        digest = bytes.fromhex(text.split()[1].removeprefix("MD5:").replace(":", ""))
        encoded = run("openssl", "base64", data=digest).decode().strip()
        return "MD5:" + encoded.rstrip("=")


class Workshop:
    """Makes keys and certificates in a folder, each by a new name."""

    def __init__(self, folder: Path) -> None:
        require_programs()
        self.folder = folder
        self._made = 0

    def new(self, suffix: str) -> Path:
        self._made += 1
        return self.folder / f"{self._made}{suffix}"

    def ssh(self, kind: str) -> SSHPair:
        file = self.new("")
        algorithm, _, bits = kind.partition("-")
        size = ("-b", bits) if bits else ()
        run("ssh-keygen", "-q", "-t", algorithm, *size, "-N", "", "-C", "somebody@somewhere", "-f", file)
        key = load_ssh_private_key(file.read_bytes(), None)  # openssl does not read OpenSSH's own format
        pem = self.new(".pem")
        pem.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        return SSHPair(pem, parse_public_key(Path(f"{file}.pub").read_text()))

    def key(self, algorithm: str = "EC", option: str = "ec_paramgen_curve:P-256") -> Path:
        file = self.new(".pem")
        run("openssl", "genpkey", "-algorithm", algorithm, *(("-pkeyopt", option) if option else ()), "-out", file)
        return file

    def certificate(
        self,
        subject: str,
        key: Path,
        *,
        issuer: str | None = None,
        signer: Path | None = None,
        extensions: str = "",
        days: int = 365,
        options: tuple[str, ...] = (),
    ) -> Path:
        """A certificate in PEM; without an issuer it is self-signed. A subject is a name or `/TYPE=value...`."""
        config, request, made = self.new(".cnf"), self.new(".csr"), self.new(".pem")
        config.write_text(f"[req]\ndistinguished_name = name\n[name]\n[extensions]\n{extensions}\n")
        run("openssl", "req", "-new", "-config", config, "-key", key, "-subj", name(subject), "-out", request)
        by: tuple[str | Path, ...] = ("-key", key)
        if issuer is not None and signer is not None:
            authority = self.new(".pem")
            run(
                *("openssl", "req", "-x509", "-new", "-config", config, "-key", signer),
                *("-subj", name(issuer), "-days", "20000", "-out", authority),
            )
            by = ("-CA", authority, "-CAkey", signer)
        extend = ("-extfile", config, "-extensions", "extensions") if extensions else ()
        run(
            *("openssl", "x509", "-req", "-in", request, *by, "-set_serial", "1", "-days", str(days)),
            *(*extend, *options, "-out", made),
        )
        return made

    def cmon(self, pair: SSHPair, subject: str = "alice", **options: object) -> Path:
        """Triton's certificate for Container Monitor: a new key, signed by an SSH key."""
        arguments: dict[str, object] = {
            "issuer": pair.sshpk_md5,
            "signer": pair.pem,
            "extensions": SSHPK_EXTENSIONS.format(purposes=f"clientAuth, {CMON}"),
            "days": 3650,
        }
        return self.certificate(subject, self.key(), **(arguments | options))


SSHPK_EXTENSIONS = """\
basicConstraints = critical,DER:30:03:01:01:00
keyUsage = critical,digitalSignature,keyAgreement
extendedKeyUsage = critical,{purposes}
subjectAltName = DNS:alice
"""
"""What node-sshpk writes; BOOLEAN FALSE is what DER leaves out, and strict parsers refuse."""


def name(subject: str) -> str:
    """A name as openssl's -subj wants it."""
    return subject if subject.startswith("/") else "/CN=" + re.sub(r"([/+\\])", r"\\\1", subject)

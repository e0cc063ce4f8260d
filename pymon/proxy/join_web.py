"""Lets nodes join and renew their certificates: `/v1/join` and `/v1/renew` on the proxy's own TLS port.

A request has no body. All that it says is in header fields, which the server bounds before it calls a handler: a token
in ``Authorization: Bearer``, and in the field names below. Binary values are base64 between colons (RFC 8941).
``GET /v1/join`` returns the certificate of the machines' authority, which an agent checks by the fingerprint in its
token.

A proxy that has no key of the machines' authority answers 503 and names proxies that have it.
"""

from __future__ import annotations

import asyncio
import binascii
import datetime as dt
import logging
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING
from uuid import UUID

from pymon.config import ConfigError
from pymon.directory import model, nodes
from pymon.directory.authority import CERTIFICATE_FILE, KEY_FILE, load_certificate, node_server_name
from pymon.directory.directory import open_directory
from pymon.directory.machines import Machines
from pymon.directory.model import DirectoryError, NotUpgradedError, UnavailableError
from pymon.directory.node_requests import JoinedNode, renewing_node, requested_key
from pymon.directory.node_tokens import Secret, TokenRefusedError, parse_token
from pymon.proxy.limits import AddressLimits
from pymon.proxy.upstream_tls import own_name
from pymon.service.answer import Refusal, Reply, text_reply

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from pymon.directory.model import Node
    from pymon.service.http1 import Headers
    from pymon.service.server import Request

_log = logging.getLogger(__name__)

NAME, UUID_FIELD, URL = "node-name", "node-uuid", "node-url"
REQUEST, CERTIFICATE, SIGNATURE = "certificate-request", "node-certificate", "renewal-signature"

PER_SECOND, BURST = 1.0, 20
"""Limits of requests from one source address, successful ones included: each costs a signature or a look at the
directory."""

MOST = 4
"""Requests that are worked on at the same time; the others get 503."""

ANSWER_SECONDS = 10.0

SIGNER_SECONDS = 60.0
"""A proxy that has the key says so in the directory, for this long each time."""

_SIGNER = "signer "
_ADDRESSES = 65536
_THREADS = 2
_PEM = b"Content-Type: application/x-pem-file\r\n"
_RETRY = b"Retry-After: 5\r\n"


class Joining:
    """Answers requests to join and to renew.

    directory: its URL. folder: of the machines' authority; its key may be missing. port: returns the proxy's port.
    """

    def __init__(self, directory: str, folder: Path, port: Callable[[], int]) -> None:
        self._directory = directory
        self._folder = folder
        self._port = port
        self._addresses = AddressLimits(PER_SECOND, BURST, _ADDRESSES)
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="join")
        self._under_way = 0

    async def announce(self) -> None:
        """Say in the directory, until cancelled, whether this proxy has the key."""
        while True:
            await asyncio.get_running_loop().run_in_executor(self._threads, self._announce)
            await asyncio.sleep(SIGNER_SECONDS / 3)

    def close(self) -> None:
        """Take no more work."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def answer(self, request: Request, remote: str) -> Reply:
        """Return the reply. remote: address of the client. Raises Refusal."""
        now = time.monotonic()
        wait = self._addresses.blocked(remote, now)
        if wait:
            raise Refusal(429, "too many requests to join or renew", b"Retry-After: %d\r\n" % (int(wait) + 1))
        self._addresses.failed(remote, now)
        work = self._work(request)
        if self._under_way >= MOST:
            raise Refusal(503, "too many nodes join or renew at the same time", _RETRY)
        self._under_way += 1
        running = asyncio.get_running_loop().run_in_executor(self._threads, work)
        running.add_done_callback(self._ended)
        done, _ = await asyncio.wait({running}, timeout=ANSWER_SECONDS)
        if not done:
            raise Refusal(503, "the directory takes too long", _RETRY)
        status, data = await running
        if status != 200:  # noqa: PLR2004
            _log.warning("node refused", extra={"fields": {"path": request.path, "from": remote, "problem": data}})
            return text_reply(status, data, _RETRY if status == 503 else b"")  # noqa: PLR2004
        return Reply(200, _PEM, data.encode("ascii"))

    def _ended(self, running: asyncio.Future[tuple[int, str]]) -> None:
        self._under_way -= 1
        if not running.cancelled():
            running.exception()  # read, so that one that nobody waits for any more is not logged

    def _work(self, request: Request) -> Callable[[], tuple[int, str]]:
        """Parse the fields of a request and return what is to be done, in a thread. Raises Refusal."""
        headers = request.headers
        if request.path == "/v1/join" and request.method in ("GET", "HEAD"):
            return lambda: self._answered(self._authority)
        if request.method != "POST":
            allow = b"Allow: GET, HEAD, POST\r\n" if request.path == "/v1/join" else b"Allow: POST\r\n"
            raise Refusal(405, "method not allowed", allow)
        csr = _binary(headers, REQUEST)
        if request.path == "/v1/renew":
            certificate, signature = _binary(headers, CERTIFICATE), _binary(headers, SIGNATURE)
            return lambda: self._answered(lambda: self._renew(certificate, csr, signature))
        kind, _, text = (headers.get("authorization") or "").partition(" ")
        token = parse_token(text) if kind.lower() == "bearer" else None
        if token is None:
            raise Refusal(401, "expected a token of `pymon node token create`", b"WWW-Authenticate: Bearer\r\n")
        try:
            uuid = model.parse_uuid(headers.get(UUID_FIELD) or "")
            node = _node(headers.get(NAME) or "", uuid, headers.get(URL) or "")
        except (ConfigError, ValueError) as error:
            raise Refusal(400, str(error) if isinstance(error, ConfigError) else f"uuid: expected {error}") from None
        return lambda: self._answered(lambda: self._join(token, node, csr))

    # --- in a thread -----------------------------------------------------------------------------

    def _answered(self, work: Callable[[], str]) -> tuple[int, str]:
        """Return the status and the text or PEM of a reply."""
        try:
            return 200, work()
        except TokenRefusedError as error:
            return 401, str(error)
        except ValueError as error:
            return 403, f"expected {error}"
        except (UnavailableError, NotUpgradedError) as error:
            return 503, str(error)
        except (DirectoryError, ConfigError) as error:
            return 409, str(error)

    def _authority(self) -> str:
        file = self._folder / CERTIFICATE_FILE
        if not file.exists():
            raise UnavailableError("this proxy has no certificate of the machines' authority")
        load_certificate(file)
        return file.read_text(encoding="ascii")

    def _machines(self) -> Machines:
        if not (self._folder / KEY_FILE).exists():
            with open_directory(self._directory, read_only=True) as directory:
                others = directory.leases(_SIGNER, SIGNER_SECONDS).values()
            known = f"{', '.join(sorted(others))} can" if others else "no proxy that is alive has it"
            raise UnavailableError(f"this proxy cannot sign, it has no key of the machines' authority; {known}")
        return Machines.load(self._folder)

    def _join(self, token: Secret, node: Node, csr: bytes) -> str:
        key = requested_key(csr)
        machines = self._machines()
        # Signed first: a token is used up only when the certificate is there.
        certificate = machines.authority.issue_node(node.name, token.id, key)
        with open_directory(self._directory) as directory:
            directory.node_tokens.admit(token, node)
        _log.info("node joined", extra={"fields": {"node": node.name, "uuid": node.uuid, "url": node.url}})
        return (certificate + machines.authority.pem).decode("ascii")

    def _renew(self, certificate: bytes, csr: bytes, signature: bytes) -> str:
        key = requested_key(csr)
        machines = self._machines()
        now = dt.datetime.now(dt.UTC)
        node = renewing_node(certificate, csr, signature, machines.authority.certificate, now)
        with open_directory(self._directory, read_only=True) as directory:
            _check_joined(node, directory.node_tokens.joined(node.name))
        issued = machines.authority.issue_node(node.name, node.token, key)
        _log.info("certificate of a node renewed", extra={"fields": {"node": node.name}})
        return (issued + machines.authority.pem).decode("ascii")

    def _announce(self) -> None:
        if not (self._folder / KEY_FILE).exists():
            return
        name = own_name()
        try:
            with open_directory(self._directory) as directory:
                directory.acquire_lease(_SIGNER + name, f"{name}:{self._port()}", SIGNER_SECONDS)
        except (DirectoryError, ConfigError) as error:
            _log.debug("others do not learn that this proxy signs: %s", error)


def _check_joined(node: JoinedNode, token: str | None) -> None:
    """Raise ValueError if a node was deleted, or joined again, since its certificate's chain of renewals began."""
    if token != node.token:
        raise ValueError(f"a certificate of the node {node.name} as it joined last; join again with a new token")


def _node(name: str, uuid: UUID, url: str) -> Node:
    """Return the node that a request describes. Raises ConfigError."""
    if not uuid.int:
        raise ConfigError("uuid: expected a UUID that is not nil")
    node = nodes.checked(name, uuid, url, "", "")
    if not node.url.startswith("https:"):
        raise ConfigError("url: expected https://HOST:PORT")
    return nodes.checked(name, uuid, url, node_server_name(name), "")


def _binary(headers: Headers, name: str) -> bytes:
    """Return the bytes in a field. Raises Refusal 400."""
    text = headers.get(name) or ""
    try:
        if len(text) <= 2 or text[0] != ":" or text[-1] != ":":  # noqa: PLR2004
            raise binascii.Error  # noqa: TRY301
        return binascii.a2b_base64(text[1:-1].encode("ascii"), strict_mode=True)
    except (binascii.Error, UnicodeEncodeError):
        raise Refusal(400, f"{name}: expected base64 between colons") from None

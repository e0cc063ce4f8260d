"""The page and its files, as replies. They hold no data and are the same for everybody."""

from __future__ import annotations

import hashlib
from html import escape
from importlib import resources
from typing import TYPE_CHECKING, Literal, NamedTuple

import pymon
from pymon.exposition.compression import gzip
from pymon.service.answer import HTML, Reply
from pymon.service.coding import takes_gzip
from pymon.service.headers import entity_tags

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pymon.service.server import Request

SECURITY = (
    b"Content-Security-Policy: default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    b"img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'\r\n"
    b"X-Content-Type-Options: nosniff\r\nReferrer-Policy: no-referrer\r\n"
)
"""Header lines of the page and of every file of it. No address outside, and no script or style in the page itself."""

_INDEX = "index.html"
_TYPES = {
    "css": b"Content-Type: text/css; charset=utf-8\r\n",
    "html": HTML,
    "js": b"Content-Type: text/javascript; charset=utf-8\r\n",
    "LICENSE": b"Content-Type: text/plain; charset=utf-8\r\n",
}


class _File(NamedTuple):
    """headers: of its reply, without the content coding. tag: its entity tag, with quotes."""

    headers: bytes
    tag: str
    plain: bytes
    packed: bytes


class Page:
    """Answers ``/`` and ``/static/NAME`` from memory.

    of: what serves the page. links: path -> text of the links for those who look for an endpoint.
    """

    def __init__(self, of: Literal["agent", "proxy"], links: Mapping[str, str]) -> None:
        items = "\n".join(f'<li><a href="{escape(path)}">{escape(text)}</a></li>' for path, text in links.items())
        self._files: dict[str, _File] = {}
        for entry in resources.files(__package__).joinpath("static").iterdir():
            data = entry.read_bytes()
            if entry.name == _INDEX:
                text = data.decode().replace("<body>", f'<body data-of="{of}">')
                text = text.replace("<!-- links -->", items).replace("<!-- version -->", escape(pymon.__version__))
                data = text.encode()
            tag = f'"{hashlib.sha256(data).hexdigest()[:16]}"'
            kind = _TYPES[entry.name.rpartition(".")[2]]
            headers = kind + SECURITY + f"ETag: {tag}\r\nCache-Control: no-cache\r\nVary: Accept-Encoding\r\n".encode()
            self._files["/" if entry.name == _INDEX else f"/static/{entry.name}"] = _File(
                headers, tag, data, gzip(data)
            )
        self.paths = frozenset(self._files)

    def reply(self, request: Request, path: str) -> Reply:
        """Return the reply for one of `paths`. Raises Refusal 406."""
        file = self._files[path]
        if file.tag.strip('"') in entity_tags(request.headers.get("if-none-match") or ""):
            return Reply(304, file.headers, b"")
        if takes_gzip(request.headers.get("accept-encoding")):
            return Reply(200, file.headers + b"Content-Encoding: gzip\r\n", file.packed)
        return Reply(200, file.headers, file.plain)

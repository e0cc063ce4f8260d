"""What the parent process of a proxy and its workers tell each other: messages over a socket of each worker.

The parent tells a worker the directory, the nodes and the places of containers: first all, then what changed. For each
worker it keeps the UUIDs that changed and no message, so a worker that does not read costs a bounded amount of memory,
and gets the present state of each container when it reads again.
"""

from __future__ import annotations

import asyncio
import struct
from itertools import islice
from typing import TYPE_CHECKING, Any, TypeVar
from uuid import UUID

import msgspec

from pymon.directory.model import Account, Certificate, Node, Snapshot, SSHKey, Token
from pymon.directory.presence import Peer
from pymon.proxy.agent_document import share
from pymon.proxy.peer_web import Told
from pymon.proxy.places import NodeView, Place, Places

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from pymon.proxy.cells import Numbers

PLACES_AT_A_TIME = 200
"""Places in one message. Encoding and reading them takes about a millisecond."""

MAX_BEHIND = 100_000
"""A worker that was not told of more changes than this, and than twice the number of containers, is told everything
again."""

MAX_UP_BYTES = 64 << 20
"""Limit of a message of a worker."""

MAX_AT_ONCE_BYTES = 1 << 18
"""Larger messages are decoded in a thread."""

_Thing = TypeVar("_Thing")

_LENGTH = struct.Struct(">I")


class Directory(msgspec.Struct, tag=True, array_like=True):
    """A snapshot of the directory, and the numbers of accounts and nodes in shared memory, by UUID and by name."""

    generation: int
    accounts: list[Account]
    certificates: list[Certificate]
    keys: list[SSHKey]
    tokens: list[Token]
    passwords: dict[UUID, bytes]
    nodes: list[Node]
    authority: bytes | None
    account_numbers: dict[str, int]
    node_numbers: dict[str, int]

    @classmethod
    def of(cls, snapshot: Snapshot, accounts: Mapping[object, int], nodes: Mapping[object, int]) -> Directory:
        """Return the message for a snapshot. accounts: numbers by the integer of the UUID. nodes: by name."""
        return cls(
            snapshot.generation,
            list(snapshot.accounts.values()),
            list(snapshot.certificates.values()),
            [key for keys in snapshot.keys.values() for key in keys],
            list(snapshot.tokens.values()),
            dict(snapshot.passwords),
            list(snapshot.nodes.values()),
            snapshot.authority,
            {f"{key:x}": number for key, number in accounts.items()},
            {str(name): number for name, number in nodes.items()},
        )

    def snapshot(self) -> Snapshot:
        """Return the snapshot that this message was made of."""
        return Snapshot.of(
            self.generation,
            accounts=self.accounts,
            certificates=self.certificates,
            keys=self.keys,
            tokens=self.tokens,
            passwords=self.passwords,
            nodes=self.nodes,
            authority=self.authority,
        )


class Found(msgspec.Struct, tag=True, array_like=True):
    """The places of containers: UUID, place where it runs, place where it stopped."""

    places: list[tuple[str, Place | None, Place | None]]


class Views(msgspec.Struct, tag=True, array_like=True):
    """All nodes, in place of those of the message before."""

    nodes: list[NodeView]


class Begin(msgspec.Struct, tag=True, array_like=True):
    """All containers follow. At `Complete`, those that were not named are gone."""


class Complete(msgspec.Struct, tag=True, array_like=True):
    """All containers were named since `Begin`."""


class Readiness(msgspec.Struct, tag=True, array_like=True):
    """Why discovery would be incomplete for everybody, None when it is not.

    unknown: names of the nodes of which nothing is known. left: whether the proxy is out of DNS, so that kept
    connections end with their next answer.
    """

    reason: str | None
    unknown: list[str] = []
    left: bool = False


class Looked(msgspec.Struct, tag=True, array_like=True):
    """The worker has been told what a look at the directory found.

    at: when the look began, in seconds of the monotonic clock, which is one for all processes.
    """

    at: float


class Look(msgspec.Struct, tag=True, array_like=True):
    """Asks for a look at the directory before the next regular one."""


class Way(msgspec.Struct, tag=True, array_like=True):
    """Another proxy, and which of the lost nodes it says it reaches."""

    name: str
    peer: Peer
    reached: list[str]


class Ways(msgspec.Struct, tag=True, array_like=True):
    """Which agents are out of reach, and the other proxies.

    asked: whether these were asked since the last agent was lost.
    """

    lost: list[str]
    others: list[Way]
    asked: bool


class Answer(msgspec.Struct, tag=True, array_like=True):
    """What another proxy is told. number: of the `Question`."""

    number: int
    told: Told


class Division(msgspec.Struct, tag=True, array_like=True):
    """Shares of quotas, by the integer of the account's UUID in hexadecimal. share: of all other accounts."""

    shares: dict[str, float]
    share: float


class Report(msgspec.Struct, tag=True, array_like=True):
    """Asks a worker for its metrics."""


class Failed(msgspec.Struct, tag=True, array_like=True):
    """An authentication failed at another worker. address: of its client."""

    address: str


class Good(msgspec.Struct, tag=True, array_like=True):
    """A credential was found valid at another worker. digest: of the credential."""

    digest: bytes


class Lost(msgspec.Struct, tag=True, array_like=True):
    """A worker's request to the agent of a node has failed. outcome: as in `Reach.tell`."""

    node: str
    outcome: str


class Question(msgspec.Struct, tag=True, array_like=True):
    """Another proxy asks for what the parent knows; the fields are those of `pymon.proxy.peer_web.Known`."""

    number: int
    what: str
    node: str
    condition: str


class Fed(msgspec.Struct, tag=True, array_like=True):
    """The worker knows everything that there was to know when it started."""


class Demand(msgspec.Struct, tag=True, array_like=True):
    """What accounts asked for since the last message, as `AccountLimits.demands`, keyed as in `Division`."""

    demands: dict[str, float]


class Metrics(msgspec.Struct, tag=True, array_like=True):
    """The worker's metrics: name, labels and value of each sample by family."""

    families: dict[str, list[tuple[str, dict[str, str], float]]]


Down = (
    Directory | Found | Views | Begin | Complete | Readiness | Looked | Ways | Division
    | Report | Answer | Failed | Good
)  # fmt: skip
Up = Fed | Demand | Metrics | Look | Lost | Question | Failed | Good

_encoder = msgspec.msgpack.Encoder()
_down = msgspec.msgpack.Decoder(Down)
_up = msgspec.msgpack.Decoder(Up)


def framed(message: Down | Up) -> bytes:
    """Return a message with its length in front."""
    data = _encoder.encode(message)
    return _LENGTH.pack(len(data)) + data


async def read_down(reader: asyncio.StreamReader) -> Down:
    """Return the next message of the parent. Raises IncompleteReadError at the end."""
    (length,) = _LENGTH.unpack(await reader.readexactly(_LENGTH.size))
    data = await reader.readexactly(length)
    return await asyncio.to_thread(_down.decode, data) if length > MAX_AT_ONCE_BYTES else _down.decode(data)


async def read_up(reader: asyncio.StreamReader) -> Up:
    """Return the next message of a worker. Raises IncompleteReadError at the end, ValueError for a wrong message."""
    (length,) = _LENGTH.unpack(await reader.readexactly(_LENGTH.size))
    if length > MAX_UP_BYTES:
        raise ValueError(f"a message of {length} bytes")
    data = await reader.readexactly(length)
    return await asyncio.to_thread(_up.decode, data) if length > MAX_AT_ONCE_BYTES else _up.decode(data)


class Feeder:
    """Feeds one worker. `run` sends, until cancelled or until the worker is gone.

    places, snapshot: of the parent. accounts, nodes: the numbers for the current snapshot.
    """

    def __init__(self, places: Places, snapshot: Callable[[], Snapshot], accounts: Numbers, nodes: Numbers) -> None:
        self._places = places
        self._snapshot = snapshot
        self._accounts = accounts
        self._nodes = nodes
        self._wake = asyncio.Event()
        self._journal = places.follow(self._wake.set)
        self._whole = True
        self._told: Snapshot | None = None
        self._views_told = -1
        self._latest: dict[type[Down], Down] = {}
        self._wake.set()

    def wake(self) -> None:
        """Look for changes of the directory."""
        self._wake.set()

    def tell(self, message: Down) -> None:
        """Send a message that replaces an earlier one of its kind which was not sent yet."""
        self._latest[type(message)] = message
        self._wake.set()

    def check(self) -> None:
        """Bound the memory of a worker that is behind. To be called every few seconds."""
        if len(self._journal) > max(MAX_BEHIND, 2 * len(self._places)):
            self._follow_anew()

    def close(self) -> None:
        """Stop to follow the places: the worker is told nothing more."""
        self._places.unfollow(self._journal)

    async def run(self, writer: asyncio.StreamWriter) -> None:
        """Send. Raises ConnectionError when the worker is gone."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            await self._catch_up(writer)

    async def _catch_up(self, writer: asyncio.StreamWriter) -> None:
        """Send all changes. Only a complete message is ever written before other tasks run."""
        while True:
            await self._tell_directory(writer)
            while self._latest:  # at once: `Looked` says that the present directory was sent
                _write(writer, framed(self._latest.popitem()[1]))
            if self._views_told != self._places.nodes_version:
                self._views_told = self._places.nodes_version
                _write(writer, framed(Views(self._places.nodes())))
            if self._whole:
                self._whole = False
                _write(writer, framed(Begin()))
                await self._tell_places(writer, self._journal)
                if not self._whole:
                    _write(writer, framed(Complete()))
            else:
                await self._tell_places(writer, self._journal)
            await writer.drain()
            if not (self._journal or self._whole or self._latest) and self._told is self._snapshot():
                return

    async def _tell_directory(self, writer: asyncio.StreamWriter) -> None:
        """Send the directory until the one that was sent is the present one."""
        while (snapshot := self._snapshot()) is not self._told:
            accounts, nodes = dict(self._accounts.by_key), dict(self._nodes.by_key)
            data = await asyncio.to_thread(_told_directory, snapshot, accounts, nodes)
            self._told = snapshot
            _write(writer, data)
            await writer.drain()

    async def _tell_places(self, writer: asyncio.StreamWriter, journal: set[str]) -> None:
        """Send the places of the containers in the journal, until it is empty or replaced."""
        while journal and journal is self._journal:
            await self._tell_directory(writer)  # a deleted credential does not wait for many containers
            uuids = tuple(islice(journal, PLACES_AT_A_TIME))
            journal.difference_update(uuids)
            _write(writer, framed(Found([(uuid, *self._places.both(uuid)) for uuid in uuids])))
            await writer.drain()
            await asyncio.sleep(0)

    def _follow_anew(self) -> None:
        self._places.unfollow(self._journal)
        self._journal = self._places.follow(self._wake.set)
        self._whole = True
        self._wake.set()


def _told_directory(snapshot: Snapshot, accounts: dict[object, int], nodes: dict[object, int]) -> bytes:
    return framed(Directory.of(snapshot, accounts, nodes))


def _write(writer: asyncio.StreamWriter, data: bytes) -> None:
    """Write. Raises ConnectionResetError on a closed connection, for which uvloop raises RuntimeError."""
    if writer.is_closing():
        raise ConnectionResetError
    writer.write(data)


class FedPlaces(Places):
    """The places as the parent tells of them."""

    def __init__(self) -> None:
        super().__init__()
        self._unnamed: set[str] | None = None
        self._same: dict[object, Any] = {}  # nodes and owners, each of which is one object for all of its places

    def begin(self) -> None:
        """Expect all places: those that are not named before `complete` are gone then."""
        self._unnamed = set(self._running.by_uuid) | set(self._stopped.by_uuid)

    def complete(self) -> None:
        """Remove the places that were not named since `begin`."""
        unnamed, self._unnamed = self._unnamed or set(), None
        self.put((uuid, None, None) for uuid in unnamed)

    def put(self, places: Iterable[tuple[str, Place | None, Place | None]]) -> None:
        """Take over places: UUID, where it runs, where it stopped."""
        for uuid, running, stopped in places:
            if self._unnamed is not None:
                self._unnamed.discard(uuid)
            for index, place in ((self._running, running), (self._stopped, stopped)):
                if place is not None:
                    share(place.container)
                    index.put(Place(place.container, self._one(place.node), self._one(place.owner)))
                elif uuid in index.by_uuid:
                    index.drop(uuid)
        self.version += 1

    def set_nodes(self, nodes: list[NodeView]) -> None:
        """Replace all nodes."""
        self._same.clear()
        self._set_views({node.uuid: self._one(node) for node in nodes})
        self.version += 1

    def _one(self, thing: _Thing) -> _Thing:
        found: _Thing = self._same.setdefault(thing, thing)
        return found

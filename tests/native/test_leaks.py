"""What is called again and again keeps no memory, descriptor or thread."""

import gc
import inspect
import os
import select
import socket
import ssl
import time
from dataclasses import replace
from pathlib import Path

import pytest

from pymon._native import exposition, loads, peaks, readers, renderer, responder, table, tls
from pymon._native.exposition import Exposition, number, read_labels, split_labels, unescaped
from pymon._native.loads import Loads
from pymon._native.peaks import Peaks
from pymon._native.readers import (
    Mailbox,
    PlanFile,
    PlanTarget,
    Reader,
    Result,
    Ticket,
    is_keyed,
    monotonic_ns,
)
from pymon._native.renderer import Body, FamilyLines, Labels, Renderer, SampleLine, decimal, escape
from pymon._native.responder import HandOver, Responder, Zones
from pymon._native.table import Table
from pymon._native.tls import accept_any_certificate
from pymon.catalogue.model import MILLI

REPEATS = 20_000
WARM_UP = 2_000
GROWTH = 1 << 20
"""Bytes of resident memory. A leak of the smallest object that there is would be 32 bytes for each repeat."""
FOREVER = 2**62

COLUMNS = tuple(f"c{i}" for i in range(70))
SAMPLE = SampleLine(0, 0, MILLI, b'a{k="v",', b'a{k="v"}', minus=1, plus=2, when=2)
FAMILIES = [
    FamilyLines(b"# text\n", b"# openmetrics\n", [SAMPLE] * 3, by_row=False),
    FamilyLines(b"# text\n", b"# openmetrics\n", [SAMPLE] * 3, by_row=True),
]
QUERY = bytes.fromhex("0001000000010000000000000161017a0000010001")
TRANSFER = QUERY[:-4] + b"\0\xfc\0\1"
SOA_DATA = bytes(2 + 20)
TEXT = b"".join(b"c%d: %d kB\n" % (i, i) for i in range(70))
WRONG = (TypeError, ValueError, KeyError, IndexError, OverflowError, BufferError, OSError)


EXPOSITION = b"# HELP a A.\n# TYPE a gauge\n" + b"".join(b'a{n="%d",x="\\n"} 1\n' % i for i in range(40))


def resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def filled():
    made = Table("t", COLUMNS)
    for _ in range(3):
        made.fill(made.add_row([("a", "1"), ("b", '"\udcff')]), range(70))
    return made


def wait(mailbox):
    assert select.select([mailbox], [], [], 60)[0]
    return mailbox.take()


def openmetrics2(exposition):
    return exposition.openmetrics2([b"# TYPE a unknown\n"] * exposition.family_count, 1)


class World:
    """What the calls work on."""

    def __init__(self, directory: Path) -> None:
        for i in range(2):
            group = directory / f"cgroup/{i}"
            group.mkdir(parents=True)
            (group / "current").write_text("17\n")
            (group / "io.stat").write_text("8:0 rbytes=1\n8:16 rbytes=2\n")
        self.directory = directory
        self.mailbox = Mailbox()
        self.reader = self.make_reader()
        self.tables = self.reader.new_tables()
        self.table = filled()
        self.other = filled()
        self.peaks = Peaks(2)
        self.loads = Loads(2)
        self.averaged = Table("load", ["a", "b"])
        self.sampled = filled()
        self.sampled.grow(100)
        self.peaked = Table("peaks", ["a", "b", "c", "d"])
        self.renderer = Renderer(FAMILIES, 1)
        self.labels = Labels([b'id="/"', None])
        self.body = Body()
        self.ticket = self.collect()
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.zones = Zones()
        self.zone = self.zones.add("z.", lambda kind, data: (15, b"\0\1\0"))
        self.zone.set_soa(30, SOA_DATA)
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind(("127.0.0.1", 0))
        self.responder = self.make_responder()

    def sample(self):
        now_ns = time.monotonic_ns()
        self.peaks.forget(1)
        self.peaks.take(1, self.sampled, "c1", 100, now_ns, 1.0)
        self.peaks.write(self.peaked, 100, (15, 60), now_ns)

    def average(self):
        self.loads.forget(1)
        self.loads.take(self.sampled, ("c1", "c2"), 100, 0.5)
        self.loads.write(self.averaged, 100)

    def make_reader(self, **arguments):
        options = {
            "roots": [str(self.directory / "cgroup")],
            "procfs": "/proc",
            "sysfs": str(self.directory),
            "files": [
                PlanFile("current", "value", [PlanTarget(0)]),
                PlanFile("io.stat", "nested", [PlanTarget(1, [("device", "device")])], keys=[("rbytes", 0)]),
            ],
            "layout": [("t", ("current",)), ("io", ("rbytes",))],
            "budget": 3,
            "slow_seconds": 0,
        }
        return Reader("r", self.mailbox, **(options | arguments))

    def collect(self):
        self.mailbox.collect([(self.reader, self.tables)], FOREVER, 2)
        return wait(self.mailbox)

    def collect_row(self):
        self.mailbox.collect_row([(self.reader, self.tables)], FOREVER, 1)
        return wait(self.mailbox)

    def add_and_remove(self):
        self.reader.add(0, "0", 0)
        self.reader.add(1, "1", 0)
        self.collect()
        self.reader.refresh(0)
        self.reader.wake()
        self.reader.remove(0)
        self.reader.add(1, "nothing", 0)

    def make_responder(self, **arguments):
        limits = {"responses_per_second": 1, "excess_bytes_per_second": 1, "handed_per_second": 0, "slip": 1}
        return Responder(self.zones, [self.socket], **(limits | arguments))

    def change_zone(self):
        zone = self.zone
        zone.record(1 << 20)
        zone.begin()
        zone.put("a.z.", (("A", 30, "10.0.0.1"), ("MX", 30, "1 ."), ("TXT", 30, '"a"')))
        problems = []
        address = (("A", 30, "10.0.0.1"),)
        zone.put_all([(("b.c.z.", "elsewhere."), ("",), address), (("d", "e"), (".z.", ".c.z."), address)], problems)
        zone.set_soa(30, SOA_DATA)
        snapshot = zone.snapshot()
        zone.put("b.c.z.", ())
        zone.get("a.z.")
        snapshot.read(10)
        snapshot.close()
        zone.begin()
        zone.sweep()
        zone.recorded_difference()

    def change_zones(self):
        made = self.zones.add("y.", lambda kind, data: (15, b"\0\1\0"))
        made.put("a.y.", (("A", 30, "10.0.0.1"),))
        self.zones.remove(made)

    def answer(self):
        self.zones.answer(QUERY, udp=True)
        self.zones.answer(QUERY, udp=False)
        with pytest.raises(HandOver):
            self.zones.answer(TRANSFER, udp=True)

    def hand_over(self):
        self.socket.sendto(TRANSFER, self.socket.getsockname())
        assert select.select([self.responder], [], [], 60)[0]
        query = self.responder.take()
        assert (query.wire, query.source) == (TRANSFER, self.socket.getsockname())
        self.responder.reply(query, b"not a query")
        self.responder.counters()
        self.responder.responses()

    def close(self):
        self.reader.close()
        self.responder.close()
        self.socket.close()

    def render(self):
        self.body.clear()
        self.renderer.render(self.body, [self.table], self.labels, openmetrics=True, selected=b"\1\1")

    def render_protobuf(self):
        self.body.clear()
        self.renderer.render(self.body, [self.table], self.labels, protobuf=True)

    def render_openmetrics2(self):
        self.body.clear()
        self.renderer.render(self.body, [self.table], self.labels, openmetrics2=True)

    def lend(self):
        with memoryview(self.table) as view, memoryview(self.body) as body:
            view.tolist()
            bytes(body)

    def rows(self):
        self.table.clear()
        for _ in range(3):
            self.table.add_row([("a", "1"), ("b", '"\udcff')])
        self.table.drop_repeated()
        self.table.scan_rows(TEXT, "name", skip=1)
        self.table.grow(100)


def read(data=EXPOSITION, **options):
    made = Exposition(data, **options)
    while not made.run(500):
        pass
    return made


def refused(call, *arguments, **options):
    def refuse(world):
        with pytest.raises(WRONG):
            call(world, *arguments, **options)

    return refuse


CALLS = {
    "monotonic_ns": lambda world: monotonic_ns(),
    "is_keyed": lambda world: is_keyed("nested"),
    "PlanFile": lambda world: PlanFile("a", "flat", [PlanTarget(0)]),
    "PlanTarget": lambda world: PlanTarget(0),
    **{
        f"PlanFile.{name}": lambda world: PlanFile("a", "flat", []).keys
        for name in ("root", "slow", "column", "keys", "second", "rest", "negative")
    },
    "PlanTarget.labels": lambda world: PlanTarget(0).labels,
    "Result": lambda world: (Result().done, Result().failures),
    "Result.done": lambda world: world.ticket.results[0].done,
    "Result.seconds": lambda world: world.ticket.results[0].seconds,
    "Result.failures": lambda world: world.ticket.results[0].failures,
    "Ticket": lambda world: Ticket(),
    "Ticket.done": lambda world: world.ticket.done,
    "Ticket.results": lambda world: world.ticket.results,
    "Mailbox": lambda world: Mailbox(),
    "Mailbox.fileno": lambda world: world.mailbox.fileno(),
    "Mailbox.take": lambda world: world.mailbox.take(),
    "Mailbox.collect": World.collect,
    "Mailbox.collect_row": World.collect_row,
    "Reader": World.make_reader,
    "Reader.add": World.add_and_remove,
    "Reader.remove": World.add_and_remove,
    "Reader.refresh": World.add_and_remove,
    "Reader.wake": World.add_and_remove,
    "Reader.close": lambda world: world.make_reader().close(),
    "Reader.name": lambda world: world.reader.name,
    "Reader.failures_of": lambda world: world.reader.failures_of(world.ticket.results[0], ("a",)),
    "Reader.layout": lambda world: world.reader.layout,
    "Reader.new_tables": lambda world: world.reader.new_tables(),
    "Reader.open_descriptors": lambda world: world.reader.open_descriptors,
    "Reader.own_descriptors": lambda world: world.reader.own_descriptors,
    "Reader.shares_descriptors": lambda world: world.reader.shares_descriptors,
    "Body": lambda world: Body().append(TEXT),
    "Body.append": World.render,
    "Body.clear": World.render,
    "Labels": lambda world: Labels([TEXT, None, b""]),
    "SampleLine": lambda world: replace(SAMPLE, table=9),
    "FamilyLines": lambda world: replace(FAMILIES[0], by_row=True),
    **{
        f"SampleLine.{name}": lambda world: SAMPLE.when
        for name in ("minus", "plus", "when", "fields", "part", "bound", "created", "composite")
    },
    **{
        f"FamilyLines.{name}": lambda world: FAMILIES[0].native
        for name in ("protobuf", "type", "native", "openmetrics2")
    },
    "Renderer": lambda world: Renderer(FAMILIES, 1),
    "Renderer.render": World.render,
    "protobuf Renderer.render": World.render_protobuf,
    "openmetrics2 Renderer.render": World.render_openmetrics2,
    "Renderer.table_count": lambda world: world.renderer.table_count,
    "decimal": lambda world: decimal(2**64 - 1, MILLI),
    "escape": lambda world: escape(b'\xff"' * 500),
    **dict.fromkeys(("Exposition", "Exposition.run"), lambda world: read()),
    "Exposition.problem": lambda world: read(EXPOSITION + b"a{n=1} 1\n").problem,
    "Exposition.steps": lambda world: read(b"").steps,
    "Exposition.family_count": lambda world: read(b"").family_count,
    "Exposition.sample_count": lambda world: read(b"").sample_count,
    "Exposition.repeated": lambda world: read(b"a 1\na 2\n" * 50, allow_repeated=True).repeated,
    "Exposition.protobuf": lambda world: read().protobuf(),
    "Exposition.openmetrics2": lambda world: openmetrics2(read()),
    "Exposition.families": lambda world: read().families(),
    "Exposition.samples": lambda world: read().samples(10, 20),
    "Exposition.rows": lambda world: read().rows(10, 20),
    "Exposition.labelled": lambda world: read(strict=True).labelled(0, b'u="1"', (b"n", b"u")),
    "read_labels": lambda world: (read_labels(b'a{b="1"}', 2), read_labels(b"a{b=1}", 2)),
    "split_labels": lambda world: split_labels(b'a="1",b="2"'),
    "number": lambda world: (number(b"inf"), number(b"x")),
    "unescaped": lambda world: unescaped(b"a\\n" * 100),
    "Loads": lambda world: Loads(3),
    "Loads.series": lambda world: world.loads.series,
    **dict.fromkeys(("Loads.take", "Loads.write", "Loads.forget"), World.average),
    "refused Loads.take": refused(lambda world: world.loads.take(world.table, ("none", "c0"), 3, 0.5)),
    "refused Loads.write": refused(lambda world: world.loads.write(world.table, 3)),
    "Peaks": lambda world: Peaks(3),
    "Peaks.series": lambda world: world.peaks.series,
    **dict.fromkeys(("Peaks.take", "Peaks.write", "Peaks.forget"), World.sample),
    "refused Peaks.take": refused(lambda world: world.peaks.take(9, world.table, "c0", 3, 0, 1.0)),
    "refused Peaks.write": refused(lambda world: world.peaks.write(world.table, 3, (15,), 0)),
    "Table": lambda world: filled(),
    "Table.add_row": World.rows,
    "Table.address": lambda world: world.table.address,
    "Table.assign": lambda world: world.table.assign(world.other),
    "Table.assign_row": lambda world: world.table.assign_row(world.other, 1),
    "Table.clear": World.rows,
    "Table.columns": lambda world: world.table.columns,
    "Table.drop_repeated": World.rows,
    "Table.fill": lambda world: world.table.fill(0, range(10**9, 10**9 + 70)),
    "Table.get": lambda world: world.table.get(0, "c69"),
    "Table.grow": World.rows,
    "Table.labels": lambda world: world.table.labels(0),
    "Table.malformed": lambda world: world.table.malformed,
    "Table.name": lambda world: world.table.name,
    "Table.relabel": lambda world: world.table.relabel(0, [("a", "1" * (time.monotonic_ns() % 50))]),
    "Table.parent": lambda world: world.table.parent(0),
    "Table.scan_keyed": lambda world: world.table.scan_keyed(0, TEXT),
    "Table.scan_rows": World.rows,
    "Table.set": lambda world: world.table.set(0, "c69", 2**64 - 1),
    "Table.stamp": lambda world: world.table.stamp("c69", 2**64 - 1),
    "Table.unset": lambda world: world.table.unset(0),
    "accept_any_certificate": lambda world: accept_any_certificate(world.context, max_chain_bytes=1000),
    "HandOver": World.answer,
    "Zones": lambda world: Zones().add("z.", len).put("a.z.", (("A", 30, "10.0.0.1"),)),
    "Zones.add": World.change_zones,
    "Zones.remove": World.change_zones,
    "Zones.answer": World.answer,
    **dict.fromkeys(
        (
            f"ZoneTable{name}"
            for name in (
                "",
                ".put",
                ".put_all",
                ".begin",
                ".sweep",
                ".set_soa",
                ".get",
                ".record",
                ".recorded_difference",
                ".snapshot",
            )
        ),
        World.change_zone,
    ),
    "ZoneTable.zones": lambda world: world.zone.zones,
    "ZoneTable.origin": lambda world: world.zone.origin,
    "ZoneTable.record_count": lambda world: world.zone.record_count,
    "Snapshot": World.change_zone,
    "Snapshot.read": World.change_zone,
    "Snapshot.close": World.change_zone,
    "Query": World.hand_over,
    "Query.source": World.hand_over,
    "Query.wire": World.hand_over,
    "Responder": lambda world: world.make_responder(),
    "Responder.close": lambda world: world.make_responder().close(),
    "Responder.fileno": lambda world: world.responder.fileno(),
    "Responder.take": World.hand_over,
    "Responder.reply": World.hand_over,
    "Responder.counters": World.hand_over,
    "Responder.responses": World.hand_over,
    "views": World.lend,
    "refused Exposition.labelled": refused(lambda world: read().labelled(0, b"", ())),
    "refused Table": refused(lambda world: Table("t", ["a", "a"])),
    "refused Table.add_row": refused(lambda world: world.table.add_row([("good", "1"), ("a", "\ud800")])),
    "refused Table.relabel": refused(lambda world: world.table.relabel(0, [("good", "1"), ("a", "\ud800")])),
    "refused Table.set": refused(lambda world: world.table.set(0, "c0", 2**64)),
    "refused Table.fill": refused(lambda world: world.table.fill(0, [1, "x"])),
    "refused Renderer": refused(
        lambda world: Renderer([*FAMILIES, FamilyLines(b"", b"", [replace(SAMPLE, table=9)], by_row=False)], 1)
    ),
    "refused Renderer.render": refused(lambda world: world.renderer.render(world.body, [Table("t", ["a"])])),
    "refused Labels": refused(lambda world: Labels([b"a", "b"])),
    "refused decimal": refused(lambda world: decimal(1, replace(MILLI, divide=0))),
    "refused Reader": refused(World.make_reader, roots=["/", "/nothing/here"]),
    "refused plan": refused(
        World.make_reader,
        files=[PlanFile("a", "nested", [PlanTarget(0, [("k", "key"), ("l", "no")])], keys=[("k", 0)])],
    ),
    "refused accept_any_certificate": refused(lambda world: accept_any_certificate(world, max_chain_bytes=1000)),
    "refused Responder": refused(World.make_responder, slip=-1),
    "refused Zones.add": refused(lambda world: world.zones.add("z.", len)),
    "refused ZoneTable.put": refused(lambda world: world.zone.put("a.z.", (("MX", -1, "a"),))),
    "refused ZoneTable.set_soa": refused(lambda world: world.zone.set_soa(1, b"\0\0")),
    "refused Mailbox.collect": refused(lambda world: world.mailbox.collect([(world.reader, [])], 0, 1)),
}

SLOW = {
    "Reader": 500,
    "Reader.close": 500,
    "refused Reader": 500,
    "Reader.add": 5_000,
    "Responder": 500,
    "Responder.close": 500,
    "Zones.add": 5_000,
    "Zones.remove": 5_000,
    "Zones": 5_000,
    **{name: 5_000 for name in CALLS if CALLS[name] in {World.change_zone, World.hand_over}},
}
"""Calls that start a thread, or do many things: repeated less often, which is enough for what they hold."""


def public_names():
    for module in (exposition, loads, peaks, readers, renderer, responder, table, tls):
        for name, value in vars(module).items():
            if name.startswith("_") or getattr(value, "__module__", None) != module.__name__:
                continue
            yield name
            if inspect.isclass(value):
                yield from (f"{name}.{attribute}" for attribute in vars(value) if not attribute.startswith("_"))


def test_every_public_name_is_called():
    assert sorted(set(public_names()) - CALLS.keys()) == []
    assert sorted(name for name in CALLS.keys() - set(public_names()) if " " not in name) == ["views"]


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    made = World(tmp_path_factory.mktemp("leaks"))
    yield made
    made.close()


@pytest.mark.parametrize("name", CALLS)
def test_memory_does_not_grow(world, name):
    call, repeats = CALLS[name], SLOW.get(name, REPEATS)
    world.table = filled()
    descriptors = len(list(Path("/proc/self/fd").iterdir()))

    def repeat(times):
        for _ in range(times):
            call(world)
        gc.collect()
        return resident()

    before = repeat(min(repeats, WARM_UP))
    growth = repeat(repeats) - before
    if growth > GROWTH:  # caches and the allocator may have taken their share only now
        before = resident()
        growth = repeat(repeats) - before
    assert growth <= GROWTH
    assert len(list(Path("/proc/self/fd").iterdir())) == descriptors

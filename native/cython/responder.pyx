"""Zones in native memory, and the thread that answers from them."""

import os

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.mem cimport PyMem_Free, PyMem_Malloc
from cpython.tuple cimport PyTuple_Check, PyTuple_GET_ITEM, PyTuple_GET_SIZE
from cpython.unicode cimport PyUnicode_AsUTF8AndSize
from libc.errno cimport EEXIST, errno
from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t
from libc.stdlib cimport free, malloc
from libc.string cimport memcpy

from pymon._native.core cimport pm_buffer, pm_buffer_free
from pymon._native.dns cimport (
    NI_NUMERICHOST,
    NI_NUMERICSERV,
    PM_ANSWER_HAND_OVER,
    PM_ANSWER_SEND,
    PM_COUNT_RCODE,
    PM_MESSAGE_MAX,
    PM_NAME_MAX,
    PM_PUT_CHANGED,
    PM_PUT_FAILED,
    PM_RR_HEAD,
    PM_UDP_PAYLOAD,
    getnameinfo,
    pm_answer,
    pm_answer_query,
    pm_builder_add,
    pm_builder_clear,
    pm_count,
    pm_difference,
    pm_handed,
    pm_limits,
    pm_name,
    pm_name_parse,
    pm_name_read,
    pm_put,
    pm_rdata_parse,
    pm_records,
    pm_records_wire,
    pm_responder,
    pm_responder_counter,
    pm_responder_event,
    pm_responder_reply,
    pm_responder_start,
    pm_responder_stop,
    pm_responder_take,
    pm_snapshot,
    pm_snapshot_free,
    pm_snapshot_new,
    pm_snapshot_read,
    pm_soa,
    pm_type_parse,
    pm_zone,
    pm_zone_begin,
    pm_zone_put,
    pm_zone_records,
    pm_zone_refusal,
    pm_zone_set_soa,
    pm_zone_sweep,
    pm_zones,
    pm_zones_add,
    pm_zones_free,
    pm_zones_new,
    pm_zones_remove,
    sockaddr,
)

cdef uint32_t TTL_MAX = 0x7fffffff
cdef dict RCODES = {
    "NOERROR": 0, "FORMERR": 1, "SERVFAIL": 2, "NXDOMAIN": 3, "NOTIMP": 4, "REFUSED": 5, "BADVERS": 16,
}
cdef tuple COUNTS = ("queries", "handed", "handed_lost", "truncated", "limited", "slipped", "ignored", "unsent")


class HandOver(Exception):
    """A transfer, update, notification or signed query: not for the native part to answer."""


cdef int parse_name(pm_name *name, str text, str suffix="") except -1:
    cdef char whole[PM_NAME_MAX]
    cdef Py_ssize_t size, more
    cdef const char *data = PyUnicode_AsUTF8AndSize(text, &size)
    cdef const char *end = PyUnicode_AsUTF8AndSize(suffix, &more)
    cdef int parsed = -1

    if size + more < PM_NAME_MAX:
        memcpy(whole, data, size)
        memcpy(whole + size, end, more)
        parsed = pm_name_parse(name, whole, size + more)
    if parsed < 0:
        raise ValueError(f"{text}{suffix}: expected an absolute domain name without escapes")
    return 0


cdef class Zones:
    """The zones that are answered from."""

    cdef pm_zones *zones
    cdef uint32_t turn

    def __cinit__(self):
        self.zones = pm_zones_new()
        if self.zones == NULL:
            raise OSError(errno, os.strerror(errno))

    def __dealloc__(self):
        pm_zones_free(self.zones)

    def add(self, str origin not None, encode):
        cdef pm_name name
        cdef ZoneTable table = ZoneTable.__new__(ZoneTable)

        parse_name(&name, origin)
        table.zone = pm_zones_add(self.zones, &name)
        if table.zone == NULL:
            if errno == EEXIST:
                raise ValueError(f"{origin}: the zone is there already")
            raise MemoryError
        table.zones = self
        table.origin = origin.lower()
        table.encode = encode
        return table

    def remove(self, ZoneTable table not None):
        if table.zones is not self:
            raise ValueError(f"{table.origin}: a zone of another set")
        table.opened()
        if pm_zones_remove(self.zones, table.zone) < 0:
            raise MemoryError
        table.zone = NULL

    def answer(self, const uint8_t[::1] query not None, *, bint udp):
        cdef uint8_t small[4096]
        cdef uint8_t *out = small
        cdef size_t limit = PM_UDP_PAYLOAD
        cdef const uint8_t *data = &query[0] if query.shape[0] else small
        cdef pm_answer answer

        if not udp:
            limit = PM_MESSAGE_MAX
            out = <uint8_t *>PyMem_Malloc(limit)
            if out == NULL:
                raise MemoryError
        try:
            self.turn += 1
            answer = pm_answer_query(self.zones, data, query.shape[0], udp, out, limit, self.turn)
            if answer.verdict == PM_ANSWER_HAND_OVER:
                raise HandOver
            if answer.verdict == PM_ANSWER_SEND:
                return PyBytes_FromStringAndSize(<char *>out, answer.len)
            return None
        finally:
            if out != small:
                PyMem_Free(out)


cdef class ZoneTable:
    """The content of one zone, changed name by name while it is answered from. Made by Zones.add."""

    cdef pm_zone *zone
    cdef pm_difference difference
    cdef readonly Zones zones
    cdef readonly str origin
    cdef object encode
    cdef tuple gathered
    cdef size_t recording

    def __dealloc__(self):
        pm_buffer_free(&self.difference.removed)
        pm_buffer_free(&self.difference.added)

    cdef int opened(self) except -1:
        if self.zone == NULL:
            raise ValueError("the zone was taken out, or not made by Zones.add")
        return 0

    cdef pm_difference *recorded(self):
        if self.recording and self.difference.removed.len + self.difference.added.len > self.recording:
            self.recording = 0
        return &self.difference if self.recording else NULL

    cdef int gather(self, tuple records) except -1:
        cdef uint8_t wire[8192 + 264]
        cdef uint16_t type
        cdef Py_ssize_t size
        cdef int written
        cdef const char *text
        cdef bytes encoded
        cdef uint32_t ttl

        if records is self.gathered and self.zone.builder.count:
            return 0
        self.gathered = None
        pm_builder_clear(&self.zone.builder)
        for record in records:
            if not PyTuple_Check(record) or PyTuple_GET_SIZE(record) != 3:
                raise TypeError(f"expected records of type, TTL and data, got {record!r}")
            kind = <object>PyTuple_GET_ITEM(record, 0)
            data = <object>PyTuple_GET_ITEM(record, 2)
            seconds = <object>PyTuple_GET_ITEM(record, 1)
            if not 0 <= seconds <= TTL_MAX:
                raise ValueError(f"expected a TTL of 0 to {TTL_MAX} seconds, got {seconds}")
            ttl = seconds
            text = PyUnicode_AsUTF8AndSize(kind, &size)
            type = pm_type_parse(text, size)
            written = -1
            if type:
                text = PyUnicode_AsUTF8AndSize(data, &size)
                written = pm_rdata_parse(type, text, size, wire)
            if written >= 0:
                written = pm_builder_add(&self.zone.builder, type, ttl, wire, written)
            else:
                number, encoded = self.encode(kind, data)
                written = pm_builder_add(
                    &self.zone.builder, number, ttl, <const uint8_t *>PyBytes_AS_STRING(encoded),
                    PyBytes_GET_SIZE(encoded))
            if written < 0:
                raise MemoryError
        self.gathered = records
        return 0

    cdef bint set(self, str label, str suffix, tuple records) except -1:
        cdef pm_name name
        cdef const char *refusal
        cdef pm_put put

        parse_name(&name, label, suffix)
        try:
            self.gather(records)
        except ValueError as error:
            raise ValueError(f"{label}{suffix}: {error}") from None
        refusal = pm_zone_refusal(self.zone, &name)
        if refusal != NULL:
            raise ValueError(f"{label}{suffix}: {refusal.decode()}")
        put = pm_zone_put(self.zone, &name, self.recorded())
        if put == PM_PUT_FAILED:
            raise MemoryError
        return put == PM_PUT_CHANGED

    def record(self, size_t max_bytes):
        self.recording = self.difference.limit = max_bytes
        self.difference.removed.len = self.difference.added.len = 0
        self.difference.removed_count = self.difference.added_count = 0

    def recorded_difference(self):
        if self.recorded() == NULL:
            return None
        return (
            self.difference.removed_count,
            PyBytes_FromStringAndSize(self.difference.removed.data, self.difference.removed.len),
            self.difference.added_count,
            PyBytes_FromStringAndSize(self.difference.added.data, self.difference.added.len),
        )

    def put(self, str owner not None, tuple records not None):
        self.opened()
        return self.set(owner, "", records)

    def put_all(self, groups, list problems not None):
        cdef size_t changed = 0

        for labels, suffixes, records in groups:
            self.opened()
            for suffix in suffixes:
                for label in labels:
                    try:
                        changed += self.set(label, suffix, records)
                    except ValueError as error:
                        problems.append(str(error))
        return changed

    def begin(self):
        self.opened()
        pm_zone_begin(self.zone)

    def sweep(self):
        cdef size_t before

        self.opened()
        before = self.zone.records
        if pm_zone_sweep(self.zone, self.recorded()) < 0:
            raise MemoryError
        return before - self.zone.records

    def set_soa(self, uint32_t ttl, bytes rdata not None):
        cdef const uint8_t *data = <const uint8_t *>PyBytes_AS_STRING(rdata)
        cdef Py_ssize_t size = PyBytes_GET_SIZE(rdata)
        cdef pm_soa *soa
        cdef int primary, mailbox = -1
        cdef uint32_t minimum

        self.opened()
        soa = <pm_soa *>malloc(sizeof(pm_soa))
        if soa == NULL:
            raise MemoryError
        primary = pm_name_read(&soa.primary, data, size)
        if primary >= 0:
            mailbox = pm_name_read(&soa.mailbox, data + primary, size - primary)
        if mailbox < 0 or primary + mailbox + 20 != size:
            free(soa)
            raise ValueError(f"{self.origin}: not the data of a SOA record")
        memcpy(soa.numbers, data + primary + mailbox, 20)
        minimum = int.from_bytes(rdata[size - 4:], "big")
        soa.ttl = ttl
        soa.negative_ttl = min(ttl, minimum)
        pm_zone_set_soa(self.zone, soa)

    def get(self, str owner not None):
        cdef pm_name name
        cdef const pm_records *records
        cdef const uint8_t *wire
        cdef uint32_t i, size

        self.opened()
        parse_name(&name, owner)
        records = pm_zone_records(self.zone, &name)
        found = []
        if records == NULL:
            return found
        wire = pm_records_wire(records)
        for i in range(records.sets):
            for _ in range(records.set[i].count):
                size = <uint32_t>wire[10] << 8 | wire[11]
                found.append((
                    records.set[i].type, records.set[i].ttl,
                    PyBytes_FromStringAndSize(<const char *>wire + PM_RR_HEAD, size)))
                wire += PM_RR_HEAD + size
        return found

    def snapshot(self):
        cdef Snapshot snapshot = Snapshot.__new__(Snapshot)

        self.opened()
        snapshot.zones = self.zones
        snapshot.snapshot = pm_snapshot_new(self.zone)
        if snapshot.snapshot == NULL:
            raise OSError(errno, os.strerror(errno))
        return snapshot

    @property
    def record_count(self):
        """Records, without SOA."""
        self.opened()
        return self.zone.records


@cython.no_gc_clear
cdef class Snapshot:
    """The records of a zone at one moment, without SOA, to be read in parts while it changes."""

    cdef Zones zones
    cdef pm_snapshot *snapshot

    def __dealloc__(self):
        pm_snapshot_free(self.snapshot)

    def read(self, size_t limit):
        cdef pm_buffer out
        cdef int64_t count

        if self.snapshot == NULL:
            raise ValueError("the snapshot is closed, or not made by ZoneTable.snapshot")
        out.data = NULL
        out.len = out.cap = 0
        count = pm_snapshot_read(self.snapshot, &out, limit)
        try:
            if count < 0:
                raise MemoryError
            return count, PyBytes_FromStringAndSize(out.data, out.len)
        finally:
            pm_buffer_free(&out)

    def close(self):
        pm_snapshot_free(self.snapshot)
        self.snapshot = NULL


cdef class Query:
    """A message handed over by a responder."""

    cdef pm_handed *handed
    cdef readonly bytes wire

    def __dealloc__(self):
        free(self.handed)

    @property
    def source(self):
        """Address, with the scope where it has one, and port."""
        cdef char host[128]
        cdef char service[16]
        cdef pm_handed *handed = self.handed

        if handed == NULL:
            raise ValueError("not made by Responder.take")
        if getnameinfo(
            <const sockaddr *>&handed.origin.peer, handed.origin.peer_len, host, sizeof(host), service,
            sizeof(service), NI_NUMERICHOST | NI_NUMERICSERV,
        ) != 0:
            raise ValueError("no address")
        return host.decode(), int(service)


@cython.no_gc_clear
cdef class Responder:
    """A thread that answers what comes to bound UDP sockets; the sockets are duplicated."""

    cdef Zones zones
    cdef pm_responder *responder

    def __cinit__(
        self, Zones zones not None, sockets, *, uint32_t responses_per_second, uint32_t excess_bytes_per_second,
        uint32_t handed_per_second, uint32_t slip,
    ):
        cdef pm_limits limits
        cdef int descriptors[64]

        self.zones = zones
        numbers = [socket.fileno() for socket in sockets]
        if len(numbers) > 64:
            raise ValueError(f"expected at most 64 sockets, got {len(numbers)}")
        for i, number in enumerate(numbers):
            descriptors[i] = number
        limits.responses_per_second = responses_per_second
        limits.excess_bytes_per_second = excess_bytes_per_second
        limits.handed_per_second = handed_per_second
        limits.slip = slip
        self.responder = pm_responder_start(zones.zones, descriptors, len(numbers), &limits)
        if self.responder == NULL:
            raise OSError(errno, os.strerror(errno))

    def __dealloc__(self):
        pm_responder_stop(self.responder)

    cdef int opened(self) except -1:
        if self.responder == NULL:
            raise ValueError("the responder is closed")
        return 0

    def close(self):
        pm_responder_stop(self.responder)
        self.responder = NULL

    def fileno(self):
        self.opened()
        return pm_responder_event(self.responder)

    def take(self):
        cdef pm_handed *handed
        cdef Query query

        self.opened()
        handed = pm_responder_take(self.responder)
        if handed == NULL:
            return None
        query = Query.__new__(Query)
        query.handed = handed
        query.wire = PyBytes_FromStringAndSize(<const char *>handed.query, handed.len)
        return query

    def reply(self, Query query not None, bytes message not None):
        cdef const uint8_t *data

        self.opened()
        if query.handed == NULL:
            raise ValueError("not made by Responder.take")
        data = <const uint8_t *>PyBytes_AS_STRING(message)
        if pm_responder_reply(self.responder, &query.handed.origin, data, PyBytes_GET_SIZE(message)) < 0:
            raise OSError(errno, os.strerror(errno))

    def counters(self):
        self.opened()
        return {name: pm_responder_counter(self.responder, <pm_count>i) for i, name in enumerate(COUNTS)}

    def responses(self):
        self.opened()
        return {
            name: pm_responder_counter(self.responder, <pm_count>(<int>PM_COUNT_RCODE + <int>rcode))
            for name, rcode in RCODES.items()
        }

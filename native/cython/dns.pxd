"""Declarations of native/dns."""

from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t

from pymon._native.core cimport pm_buffer

cdef extern from "<sys/socket.h>" nogil:
    ctypedef unsigned int socklen_t

    cdef struct sockaddr_storage:
        pass

    cdef struct sockaddr:
        pass

cdef extern from "<netdb.h>" nogil:
    const int NI_NUMERICHOST
    const int NI_NUMERICSERV
    int getnameinfo(const sockaddr *address, socklen_t len, char *host, socklen_t host_len, char *service,
                    socklen_t service_len, int flags)

cdef extern from "name.h" nogil:
    enum:
        PM_NAME_MAX

    ctypedef struct pm_name:
        uint8_t len
        uint8_t labels
        uint8_t *at
        uint8_t *wire

    int pm_name_read(pm_name *name, const uint8_t *data, size_t len)
    int pm_name_parse(pm_name *name, const char *text, size_t len)

cdef extern from "rdata.h" nogil:
    const int PM_RDATA_MAX
    uint16_t pm_type_parse(const char *text, size_t len)
    int pm_rdata_parse(uint16_t type, const char *text, size_t len, uint8_t *out)

cdef extern from "records.h" nogil:
    const int PM_RR_HEAD

    ctypedef struct pm_rrset:
        uint16_t type
        uint32_t count
        uint32_t ttl
        uint32_t offset
        uint32_t len

    ctypedef struct pm_records:
        uint32_t sets
        pm_rrset *set

    ctypedef struct pm_builder:
        uint32_t count

    const uint8_t *pm_records_wire(const pm_records *records)
    void pm_builder_clear(pm_builder *builder)
    int pm_builder_add(pm_builder *builder, uint16_t type, uint32_t ttl, const uint8_t *rdata, size_t len)

cdef extern from "dns_zone.h" nogil:
    ctypedef enum pm_put:
        PM_PUT_FAILED
        PM_PUT_SAME
        PM_PUT_CHANGED

    ctypedef struct pm_soa:
        uint32_t ttl
        uint32_t negative_ttl
        pm_name primary
        pm_name mailbox
        uint8_t *numbers

    ctypedef struct pm_zones:
        pass

    ctypedef struct pm_zone:
        size_t records
        pm_builder builder

    ctypedef struct pm_difference:
        pm_buffer removed
        pm_buffer added
        uint64_t removed_count
        uint64_t added_count
        size_t limit

    ctypedef struct pm_snapshot:
        pass

    pm_zones *pm_zones_new()
    void pm_zones_free(pm_zones *zones)
    pm_zone *pm_zones_add(pm_zones *zones, const pm_name *name)
    int pm_zones_remove(pm_zones *zones, pm_zone *zone)
    const char *pm_zone_refusal(const pm_zone *zone, const pm_name *name)
    pm_put pm_zone_put(pm_zone *zone, const pm_name *name, pm_difference *difference)
    void pm_zone_begin(pm_zone *zone)
    int pm_zone_sweep(pm_zone *zone, pm_difference *difference)
    void pm_zone_set_soa(pm_zone *zone, pm_soa *soa)
    const pm_records *pm_zone_records(const pm_zone *zone, const pm_name *name)
    pm_snapshot *pm_snapshot_new(pm_zone *zone)
    void pm_snapshot_free(pm_snapshot *snapshot)
    int64_t pm_snapshot_read(pm_snapshot *snapshot, pm_buffer *out, size_t limit)

cdef extern from "answer.h" nogil:
    const int PM_UDP_PLAIN
    const int PM_UDP_PAYLOAD
    const int PM_MESSAGE_MAX
    const int PM_RCODE_COUNT

    ctypedef enum pm_verdict:
        PM_ANSWER_DROP
        PM_ANSWER_SEND
        PM_ANSWER_HAND_OVER

    ctypedef struct pm_answer:
        pm_verdict verdict
        size_t len

    pm_answer pm_answer_query(const pm_zones *zones, const uint8_t *query, size_t len, int udp, uint8_t *out,
                              size_t limit, uint32_t turn)

cdef extern from "limit.h" nogil:
    ctypedef struct pm_limits:
        uint32_t responses_per_second
        uint32_t excess_bytes_per_second
        uint32_t handed_per_second
        uint32_t slip

cdef extern from "responder.h" nogil:
    ctypedef enum pm_count:
        PM_COUNT_RCODE

    ctypedef struct pm_origin:
        socklen_t peer_len
        sockaddr_storage peer

    ctypedef struct pm_handed:
        pm_origin origin
        size_t len
        uint8_t *query

    ctypedef struct pm_responder:
        pass

    pm_responder *pm_responder_start(pm_zones *zones, const int *sockets, unsigned count, const pm_limits *limits)
    void pm_responder_stop(pm_responder *responder)
    int pm_responder_event(const pm_responder *responder)
    pm_handed *pm_responder_take(pm_responder *responder)
    int pm_responder_reply(pm_responder *responder, const pm_origin *origin, const uint8_t *data, size_t len)
    uint64_t pm_responder_counter(const pm_responder *responder, pm_count count)

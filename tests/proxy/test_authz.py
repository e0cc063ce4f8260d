"""The table of tests/golden/authz.txt. `pytest tests/proxy/test_authz.py --update-golden` writes it anew."""

import difflib
from itertools import product
from pathlib import Path
from types import SimpleNamespace
from uuid import UUID

import pytest

from pymon.proxy.authz import Decision, Kind, Resource, decide, kind_of

GOLDEN = Path(__file__).parents[1] / "golden" / "authz.txt"

ALICE, BOB, ROOT = UUID(int=1), UUID(int=2), UUID(int=3)


def principal(account, *, operator):
    return SimpleNamespace(account=account, operator=operator)


PRINCIPALS = {
    "nobody": None,
    "alice, a tenant": principal(ALICE, operator=False),
    "bob, a tenant": principal(BOB, operator=False),
    "root, an operator": principal(ROOT, operator=True),
}

RESOURCES = {
    "container of alice": Resource(Kind.CONTAINER, True, ALICE),
    "container of bob": Resource(Kind.CONTAINER, True, BOB),
    "container of root": Resource(Kind.CONTAINER, True, ROOT),
    "container of nobody": Resource(Kind.CONTAINER, True, None),
    "container that is not there": Resource(Kind.CONTAINER, False, None),
    "application of alice": Resource(Kind.APP, True, ALICE),
    "application of bob": Resource(Kind.APP, True, BOB),
    "application of nobody": Resource(Kind.APP, True, None),
    "application that is not there": Resource(Kind.APP, False),
    "node": Resource(Kind.NODE),
    "node that is not there": Resource(Kind.NODE, False),
    **{kind.value: Resource(kind) for kind in Kind if kind not in {Kind.CONTAINER, Kind.APP, Kind.NODE}},
}

UUIDS = ("c0ffee00-0000-4000-8000-00000000000A", "c0ffee00000040008000000000000000")

PATHS = (
    "/metrics",
    *(f"/v1/{uuid}/metrics" for uuid in UUIDS),
    *(f"/v1/{uuid}/app/metrics" for uuid in UUIDS),
    f"/v1/{UUIDS[0]}/app/app/metrics",
    f"/v1/{UUIDS[0]}/App/metrics",
    "/v1/account/metrics",
    "/v1/discover",
    "/v1/gz/discover",
    "/v1/gz/metrics",
    "/v1/sd",
    "/v1/sd/",
    "/v1/summary",
    "/v1/login",
    "/v1/logout",
    "/static/page.js",
    "/_ping",
    "/v7/_ping",
    "/v1/v1/_ping",
    "/-/healthy",
    "/-/ready",
    "/-/",
    "/",
    "",
    "*",
)

METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT", "get", "")


def table():
    lines = []
    for who, principal in PRINCIPALS.items():
        for what, resource in RESOURCES.items():
            by_status = {}
            for method in METHODS:
                by_status.setdefault(decide(principal, resource, method).status, []).append(repr(method).strip("'"))
            answers = "   ".join(
                f"{status} {' '.join(word or '(empty)' for word in by_status[status])}" for status in sorted(by_status)
            )
            lines.append(f"{who:<18} {what:<28} {answers}\n")
    for path in PATHS:
        kind, uuid = kind_of(path)
        lines.append(f"path {path or '(empty)':<55} {kind.value} {uuid}".rstrip() + "\n")
    return "".join(lines)


def test_golden(request):
    got = table()
    if request.config.getoption("--update-golden"):
        GOLDEN.write_text(got)
    expected = GOLDEN.read_text()
    assert got == expected, "\n".join(
        difflib.unified_diff(expected.splitlines(), got.splitlines(), str(GOLDEN), "now", n=0, lineterm="")
    )


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("who", PRINCIPALS)
def test_what_is_not_yours_is_answered_as_what_is_not_there(who, method):
    asks = PRINCIPALS[who]
    absent = {kind: decide(asks, Resource(kind, False), method) for kind in (Kind.CONTAINER, Kind.APP, Kind.NODE)}
    for resource in RESOURCES.values():
        if resource.kind in absent:
            decision = decide(asks, resource, method)
            assert decision is Decision.ALLOW or decision is absent[resource.kind]


def test_without_a_principal_nothing_that_has_data_is_allowed_and_all_refusals_are_the_same():
    for (what, resource), method in product(RESOURCES.items(), METHODS):
        decision = decide(None, resource, method)
        if what not in {"health", "page", "logout"}:
            assert decision is Decision.UNAUTHENTICATED


def test_an_operator_sees_no_other_tenants_containers():
    for who in ("root, an operator", "bob, a tenant"):
        assert decide(PRINCIPALS[who], RESOURCES["container of alice"], "GET") is Decision.NOT_FOUND
        assert decide(PRINCIPALS[who], RESOURCES["application of alice"], "GET") is Decision.NOT_FOUND


def test_the_owner_of_a_container_that_is_gone_gets_what_everybody_gets():
    gone = Resource(Kind.CONTAINER, False, ALICE)
    assert decide(PRINCIPALS["alice, a tenant"], gone, "GET") is Decision.NOT_FOUND


def test_an_equal_uuid_of_another_object_is_the_owner():
    resource = Resource(Kind.CONTAINER, True, UUID(str(ALICE)))
    assert decide(PRINCIPALS["alice, a tenant"], resource, "GET") is Decision.ALLOW

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pymon.service_labels import MAX_CHARACTERS, MAX_SERVICES, Service, Services, parse


@pytest.mark.parametrize(
    ("text", "services"),
    [
        ("", []),
        (" , ,", []),
        ("web", [Service("web")]),
        ("web:8080", [Service("web", 8080)]),
        ("Web : 80 ,db", [Service("web", 80), Service("db")]),
        ("db:5432:priority=10:weight=5", [Service("db", 5432, 10, 5)]),
        ("db:port=5432:weight=0", [Service("db", 5432, 0, 0)]),
        ("db:priority=1", [Service("db", None, 1)]),
        ("web:80,web:81,web:80", [Service("web", 80), Service("web", 81)]),
    ],
)
def test_services_are_read(text, services):
    assert parse(text) == Services(
        tuple(services), tuple(dict.fromkeys(service.label for service in services)), problems=()
    )


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("1web", "expected a name of letters"),
        ("web-", "expected a name of letters"),
        ("we_b", "expected a name of letters"),
        ("caf\u00e9", "expected a name of letters"),
        ("\u212a", "expected a name of letters"),
        ("a" * 64, "expected a name of letters"),
        (":80", "expected a name of letters"),
        ("web:0", "expected a port from 1 to 65535"),
        ("web:65536", "expected a port from 1 to 65535"),
        ("web:-1", "expected a port from 1 to 65535"),
        ("web:\u0663", "expected a port from 1 to 65535"),
        ("web:", "expected a port from 1 to 65535"),
        ("web:80:81", "expected port=, priority= or weight=, each once"),
        ("web:80:port=80", "expected port=, priority= or weight=, each once"),
        ("web:80:color=red", "expected port=, priority= or weight=, each once"),
        ("web:80:weight=65536", "expected a weight from 0 to 65535"),
        ("web:80:priority=x", "expected a priority from 0 to 65535"),
    ],
)
def test_one_service_that_is_wrong_is_left_out_and_says_why(text, why):
    found = parse(f"first,{text},last:1")
    assert found.services == (Service("first"), Service("last", 1))
    (problem,) = found.problems
    assert why in problem


def test_the_number_of_services_is_bounded():
    found = parse(",".join(f"s{number}" for number in range(MAX_SERVICES + 2)))
    assert len(found.services) == MAX_SERVICES
    assert found.problems == ("66 services, the first 64 count",)
    assert parse("a" * (MAX_CHARACTERS + 1)) == Services(
        problems=("expected services in at most 4096 characters, got 4097",)
    )


@given(st.text("aZ9-:=, portweigh\u00e9\n", max_size=60))
def test_whatever_is_read_is_a_service_or_a_problem_of_one_line(text):
    found = parse(text)
    assert len(found.services) + len(found.problems) <= text.count(",") + 1
    for service in found.services:
        assert service.label == service.label.lower()
        assert service.port is None or 1 <= service.port <= 65535
    assert not any("\n" in problem for problem in found.problems)

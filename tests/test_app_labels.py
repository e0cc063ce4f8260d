import pytest
from hypothesis import given
from hypothesis import strategies as st

from pymon.app_labels import MAX_PORTS, Declared, declared, is_path, is_port

SCRAPED = {"prometheus.io/scrape": "true"}


@pytest.mark.parametrize(
    ("labels", "ports", "path"),
    [
        ({}, (), ""),
        ({"pymon.metrics.port": "9100"}, (9100,), "/metrics"),
        ({"pymon.metrics.port": "9100", "pymon.metrics.path": ""}, (9100,), "/metrics"),
        ({"pymon.metrics.port": " 9100, 80,9100", "pymon.metrics.path": "/a/b%20c"}, (9100, 80), "/a/b%20c"),
        ({"pymon.metrics.path": "/a"}, (), ""),
        (SCRAPED | {"prometheus.io/port": "80", "prometheus.io/path": "/m"}, (80,), "/m"),
        (SCRAPED | {"prometheus.io/port": "80", "prometheus.io/scheme": "http"}, (80,), "/metrics"),
        (SCRAPED | {"prometheus.io/port": "80", "pymon.metrics.port": "81"}, (81,), "/metrics"),
        (SCRAPED, (), ""),
        ({"prometheus.io/scrape": "false", "prometheus.io/port": "80"}, (), ""),
        ({"prometheus.io/port": "80"}, (), ""),
    ],
)
def test_what_a_container_declares(labels, ports, path):
    assert declared(labels) == Declared(ports, path)


@pytest.mark.parametrize(
    ("labels", "problem"),
    [
        ({"pymon.metrics.port": "0"}, "label pymon.metrics.port: '0', expected at most 16 ports from 1 to 65535"),
        ({"pymon.metrics.port": "65536"}, "label pymon.metrics.port: '65536', expected"),
        ({"pymon.metrics.port": "80,"}, "label pymon.metrics.port: '80,', expected"),
        ({"pymon.metrics.port": "-1"}, "label pymon.metrics.port: '-1', expected"),
        ({"pymon.metrics.port": "\u0661"}, "label pymon.metrics.port: '\\u0661', expected"),
        ({"pymon.metrics.port": ""}, "label pymon.metrics.port: '', expected"),
        ({"pymon.metrics.port": ",".join(map(str, range(1, MAX_PORTS + 2)))}, "label pymon.metrics.port: '1,2,"),
        (SCRAPED | {"prometheus.io/port": "x\n"}, "label prometheus.io/port: 'x\\n', expected"),
        (
            SCRAPED | {"prometheus.io/port": "80", "prometheus.io/scheme": "https"},
            "label prometheus.io/scheme: 'https'",
        ),
        ({"pymon.metrics.port": "80", "pymon.metrics.path": "m"}, "label pymon.metrics.path: 'm', expected a path"),
    ],
)
def test_what_is_not_as_expected_declares_nothing(labels, problem):
    found = declared(labels)
    assert (found.ports, found.path) == ((), "")
    (line,) = found.problems
    assert line.startswith(problem)
    assert line.isprintable()


@pytest.mark.parametrize(
    "path",
    [
        "", "metrics", "http://other.example/metrics", "//other.example/metrics", "/a b", "/a\r\nHost: other", "/a\n",
        "/a?b=c", "/a#b", "/\u00e9", "/\x00", "/" + "a" * 1024, "file:///etc/passwd", "/a\\b", '/"',
    ],
)  # fmt: skip
def test_what_is_no_path(path):
    assert not is_path(path)
    assert declared({"pymon.metrics.port": "80", "pymon.metrics.path": path}).path in ("", "/metrics")


def test_ports():
    assert [port for port in (-1, 0, 1, 65535, 65536) if is_port(port)] == [1, 65535]


@given(st.dictionaries(st.sampled_from(["pymon.metrics.port", "pymon.metrics.path", "prometheus.io/port"]), st.text()))
def test_any_labels_declare_ports_and_a_path_or_nothing(labels):
    found = declared(labels | SCRAPED)
    assert bool(found.ports) == bool(found.path)
    assert all(map(is_port, found.ports))
    assert not found.path or is_path(found.path)

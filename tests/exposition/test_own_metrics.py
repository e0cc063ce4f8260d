"""A program's own metrics, read when they are written."""

from __future__ import annotations

import time

import pytest
from prometheus_client.exposition import generate_latest as text_latest
from prometheus_client.openmetrics.exposition import generate_latest as openmetrics_latest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from pymon.exposition.histogram import Histogram
from pymon.exposition.negotiation import Format
from pymon.exposition.own_metrics import OwnMetrics
from tests.exposition.messages import families as messages_of
from tests.exposition.openmetrics2 import read


def filled() -> OwnMetrics:
    metrics = OwnMetrics()
    metrics.build_info(version="1", python="3")
    metrics.gauge("x_waiting", "Waiting.", lambda: 2)
    metrics.gauges("x_age_seconds", "Age.", ("node",), lambda: {('a"\n',): 1.5, ("b",): 0})
    metrics.counters("x_requests", "Requests.", ("route", "code"), lambda: {("r", 200): 3})
    taken = {("ok",): Histogram()}
    taken["ok",].observe(0.3)
    metrics.histograms("x_seconds", "Time.", ("outcome",), taken)
    return metrics


@pytest.mark.parametrize(
    ("form", "parse"), [(Format.TEXT_0_0_4, parse_text), (Format.OPENMETRICS_1_0_0, parse_openmetrics)]
)
def test_all_kinds_are_written_in_both_formats_in_their_order(form, parse):
    text = (filled().render(form) + form.end).decode()
    families = [family for family in parse(text) if not family.name.startswith("process_")]
    assert [(family.name, family.type) for family in families] == [
        ("pymon_build_info", "gauge"),
        ("x_waiting", "gauge"),
        ("x_age_seconds", "gauge"),
        ("x_requests", "counter"),
        ("x_seconds", "histogram"),
    ]
    samples = {(one.name, *sorted(one.labels.items())): one.value for family in families for one in family.samples}
    assert samples["pymon_build_info", ("python", "3"), ("version", "1")] == 1
    assert samples["x_waiting",] == 2
    assert samples["x_age_seconds", ("node", 'a"\n')] == 1.5
    assert samples["x_requests_total", ("code", "200"), ("route", "r")] == 3
    assert samples["x_seconds_bucket", ("le", "0.25"), ("outcome", "ok")] == 0
    assert samples["x_seconds_count", ("outcome", "ok")] == 1


@pytest.mark.parametrize(
    ("form", "parse"), [(Format.TEXT_0_0_4, parse_text), (Format.OPENMETRICS_1_0_0, parse_openmetrics)]
)
def test_what_other_processes_counted_is_added(form, parse):
    metrics, other = filled(), OwnMetrics()
    other.counters("x_requests", "Requests.", ("route", "code"), lambda: {("r", 200): 4, ("other", 500): 1})
    taken = {("ok",): Histogram(), ("failed",): Histogram()}
    for histogram in taken.values():
        histogram.observe(0.003)
    other.histograms("x_seconds", "Time.", ("outcome",), taken)
    other.gauge("x_unknown", "A family that is the other's alone.", lambda: 1)
    metrics.others = lambda: [other.samples(), other.samples()]
    families = list(parse((metrics.render(form) + form.end).decode()))
    names = [family.name for family in families]
    assert len(set(names)) == len(names)
    assert "x_unknown" not in names
    samples = {(one.name, *sorted(one.labels.items())): one.value for family in families for one in family.samples}
    assert samples["x_requests_total", ("code", "200"), ("route", "r")] == 11
    assert samples["x_requests_total", ("code", "500"), ("route", "other")] == 2
    assert samples["x_seconds_bucket", ("le", "0.005"), ("outcome", "ok")] == 2
    assert samples["x_seconds_count", ("outcome", "ok")] == 3
    assert samples["x_seconds_count", ("outcome", "failed")] == 2
    assert samples["x_waiting",] == 2


@pytest.mark.parametrize(
    ("form", "latest"), [(Format.TEXT_0_0_4, text_latest), (Format.OPENMETRICS_1_0_0, openmetrics_latest)]
)
def test_the_text_is_that_of_prometheus_client(form, latest):
    metrics = filled()
    odd = 'a\\b"c\nd é'
    numbers = {(odd, 2): 1e6, ("", 1): 1234567.0, ("b", 0): 0.1, ("c", 3): float("nan"), ("d", 4): float("-inf")}
    metrics.gauges("x_odd", f"Help: {odd}.", ("z", "a"), lambda: numbers)
    metrics.counters("x_odd_counts", f"Help: {odd}.", ("z", "a"), lambda: numbers)
    metrics.gauge("x_absent", "Absent.", lambda: None)
    for _ in range(2):
        ours, theirs = (
            [line for line in text.decode().split("\n") if not line.startswith("process_")]
            for text in (metrics.render(form) + form.end, latest(metrics.registry))
        )
        assert ours == theirs
        numbers.pop(("b", 0), None)
        numbers["new", 5] = 7


@pytest.mark.parametrize("name", ["x_waiting", "x_requests_total", "x_seconds_count"])
def test_every_family_is_narrowed_by_name(name):
    text = filled().render(Format.TEXT_0_0_4, frozenset({name})).decode()
    assert {line.partition("{")[0].partition(" ")[0] for line in text.splitlines() if line[0] != "#"} == {name}


def test_formats_that_tell_it_say_that_the_process_began_to_count():
    metrics = filled()
    form = Format.OPENMETRICS_2_0_0
    families = read(metrics.render(form) + form.end)
    ((_, began),) = families["process_start_time_seconds"].series.items()
    assert began == pytest.approx(time.time(), abs=86400)
    starts = {name: dict(family.starts) for name, family in families.items() if family.starts}
    assert starts.keys() == {"process_cpu_seconds_total", "x_requests_total", "x_seconds"}
    assert all(start == pytest.approx(began, abs=0.001) for one in starts.values() for start in one.values())
    told = {family.name: family.metric[0] for family in messages_of(metrics.render(Format.PROTOBUF))}
    for one in (
        told["x_requests_total"].counter,
        told["x_seconds"].histogram,
        told["process_cpu_seconds_total"].counter,
    ):
        assert one.created_timestamp.ToMilliseconds() == pytest.approx(1000 * began, abs=1)
    assert b"st@" not in metrics.render(Format.OPENMETRICS_1_0_0)


def test_a_name_is_added_once():
    metrics = filled()
    with pytest.raises(ValueError, match="x_requests"):
        metrics.counters("x_requests", "Again.", (), dict)

from fractions import Fraction

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.e2e.prometheus import check_metrics
from tests.oracle import parse
from tests.proxy.aggregated import adds_up, aggregate, exposition, model, one


@pytest.mark.parametrize("by", ["service", "group", "node"])
def test_sums_of_real_containers_are_those_of_the_slow_model(parts, by):
    body = aggregate(parts, by)
    assert parse(body) == model(parts, by)
    assert len(parse(body)) > 100
    checked = check_metrics(body)
    assert checked.status in {0, 3}, checked.output
    assert len(list(text_string_to_metric_families(body.decode()))) == body.count(b"# TYPE ")


def test_every_metric_of_the_catalogue_is_summed_or_left_out_as_the_model_says(parts):
    """A new metric has to be thought of here."""
    from pymon.catalogue import cadvisor, cmon, stopped  # noqa: PLC0415  # the catalogues, for this test only

    for metric in (*cadvisor.METRICS, *stopped.METRICS, *cmon.CONTAINER, *cmon.TIME):
        body = exposition((metric.name, metric.kind.value, [({"id": "/a"}, 1)]))
        assert bool(aggregate([one(body)], "node")) is adds_up(metric.name, metric.kind.value), metric.name


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("mem_limit", "gauge"),
        ("mem_swap_limit", "gauge"),
        ("cpucap_limit_percentage", "gauge"),
        ("cpucap_burst_limit_seconds", "gauge"),
        ("cpucap_max_usage_percentage", "gauge"),
        ("time_of_day", "counter"),
        ("container_info", "gauge"),
        ("cache_hit_ratio", "gauge"),
        ("plugin_x_metrics_available_boolean", "gauge"),
        ("plugin_x_metrics_cached_boolean", "gauge"),
        ("plugin_x_metrics_timer_seconds", "gauge"),
        ("anything", "untyped"),
    ],
)
def test_what_does_not_add_up_is_left_out(name, kind):
    assert aggregate([one(exposition((name, kind, [({}, 1)])))], "node") == b""


@pytest.mark.parametrize("name", ["mem_agg_usage", "mem_swap", "vfs_elements_wait_state", "load_average", "minutes"])
def test_gauges_that_add_up_are_summed(name):
    body = exposition((name, "gauge", [({}, 1)]))
    assert parse(aggregate([one(body), one(body, "u2")], "node")) == {(name, frozenset({("node", "n1")})): 2}


def test_sums_are_exact_and_written_as_agents_write():
    values = ("0.1", "0.2", "18446744073709551615.000000001", "-0.300000001", "9" * 40)
    bodies = [exposition(("a_total", "counter", [({}, value)])) for value in values]
    body = aggregate([one(body, f"u{number}") for number, body in enumerate(bodies)], "node")
    total = sum(Fraction(value) for value in values)
    assert body.splitlines()[-1] == b'a_total{node="n1"} %d' % total
    assert total.denominator == 1
    body = aggregate([one(body, f"u{number}") for number, body in enumerate(bodies[:2])], "node")
    assert body.splitlines()[-1] == b'a_total{node="n1"} 0.3'


def test_a_container_counts_in_each_of_its_services_once_and_without_one_under_no_label():
    body = exposition(("a", "gauge", [({"id": "/x", "cpu": "total", "container_label_y": "z"}, 1)]))
    parts = [
        one(body, "u1", services=("web", "db", "web")),
        one(body, "u2", services=("db",)),
        one(body, "u3"),
        one(body, "u4", services=("",)),
    ]
    assert aggregate(parts, "service") == (
        b"# HELP a Help of a.\n# TYPE a gauge\n"
        b'a{service="web",cpu="total"} 1\na{service="db",cpu="total"} 2\na{cpu="total"} 2\n'
    )


def test_labels_in_another_order_or_empty_are_the_same_labels():
    bodies = [
        b'# HELP a A\n# TYPE a gauge\na{x="1",y="2",z=""} 1\n',
        b'# HELP a A\n# TYPE a gauge\na{y="2",x="1",} 1\n',
    ]
    body = aggregate([one(body, f"u{number}") for number, body in enumerate(bodies)], "group")
    assert body == b'# HELP a A\n# TYPE a gauge\na{x="1",y="2"} 2\n'

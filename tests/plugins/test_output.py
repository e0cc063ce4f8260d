import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pymon.exposition.families import ExpositionError, Family, Sample, parse_text, write
from pymon.plugins.output import parse_output
from tests.exposition.prometheus_rules import broken_rules

TABS = "/opt/custom/cmon/vm-plugins/my.sh"
TEXT = "/opt/custom/cmon/vm-plugins/my.prom"


def tabs(text):
    return parse_output("my", TABS, text.encode())


def prom(text):
    return parse_output("my", TEXT, text.encode())


def test_lines_of_fields():
    output = tabs(
        "number\tgauge\t42\tthe number\n"
        "\n"
        '  net{interface="vnic0",z="a\\"}b"}\tcounter\t17\n'
        'net{interface="vnic1"}\tcounter\t1.5e3\tof another help\r\n'
        "5xx\tgauge\t-1"
    )
    assert output.families == (
        Family("plugin_my_number", "gauge", "the number", [Sample("", (), "42")]),
        Family(
            "plugin_my_net",
            "counter",
            "net",
            [Sample("", (("interface", "vnic0"), ("z", 'a"}b')), "17"), Sample("", (("interface", "vnic1"),), "1.5e3")],
        ),
        Family("plugin_my_5xx", "gauge", "5xx", [Sample("", (), "-1")]),
    )
    assert output.ttl_seconds is None


def test_a_number_may_stand_between_spaces():
    output = tabs("files\tgauge\t      12\tFiles.\nttl\toption\t 30 \n")
    assert output.families == (Family("plugin_my_files", "gauge", "Files.", [Sample("", (), "12")]),)
    assert output.ttl_seconds == 30


def test_the_last_ttl_of_lines_counts():
    assert tabs("ttl\toption\t10\na\tgauge\t1\nttl\toption\t30\n").ttl_seconds == 30
    assert tabs("ttl\toption\t-1\n") == ((), -1)


def test_nothing_is_no_metrics():
    assert tabs("") == ((), None)
    assert prom("") == ((), None)
    assert prom("\n# OPTION ttl 5\n") == ((), 5)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a gauge 1", "line 1: expected name, type, value and perhaps a help, got 1 fields"),
        ("a\tgauge", "got 2 fields"),
        ("a\tgauge\t1\thelp\tmore", "got 5 fields"),
        ("ok\tgauge\t1\na\thistogram\t1", "line 2: a: expected the type counter, gauge or option"),
        ("a-b\tgauge\t1", "expected a name of letters, digits, _ and :"),
        ("\xe4\tgauge\t1", "expected a name of letters"),
        ("a\tgauge\t1 2", "expected a number, got '1 2'"),
        ("a\tgauge\t  \thelp", "expected a number, got ''"),
        ("a\tgauge\tmany", "expected a number, got 'many'"),
        ("a\tgauge\tNaN", "expected a number, got 'NaN'"),
        ("a\tgauge\t0x10", "expected a number"),
        ("a\tgauge\t\tx", "expected a number, got ''"),
        ("a{b=1}\tgauge\t1", "expected label"),
        ('a{b="1"}c\tgauge\t1', "expected nothing behind the closing brace"),
        ('a{b="1"\tgauge\t1', "expected label"),
        ('a{b="1",b="2"}\tgauge\t1', "label b: given twice"),
        ("a\tgauge\t1\na\tcounter\t1", "line 2: a: expected the type gauge as before, got counter"),
        ("a\tgauge\t1\na\tgauge\t2", "plugin_my_a: the same labels twice"),
        ('a{x="1",y="2"}\tgauge\t1\na{y="2",z="",x="1"}\tgauge\t2', "plugin_my_a: the same labels twice"),
        ("ttl\toption\tsoon", "ttl: expected seconds, got 'soon'"),
        ("pages\toption\t1", "expected the option ttl, got 'pages'"),
        ("metrics_cached_boolean\tgauge\t1", "expected another name, this one is pymon's"),
    ],
)
def test_a_bad_line_costs_the_output(text, expected):
    with pytest.raises(ExpositionError) as caught:
        tabs(text)
    assert expected in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_text_format_has_its_prefix_on_every_line():
    output = prom(
        "# OPTION ttl 30\n"
        "# HELP requests Requests answered.\n"
        "# TYPE requests counter\n"
        'requests{code="200"} 17\n'
        "# TYPE seconds histogram\n"
        'seconds_bucket{le="1"} 1\nseconds_sum 0.5\nseconds_count 1'
    )
    assert output.ttl_seconds == 30
    text = write(output.families, openmetrics=False).decode()
    assert text == (
        "# HELP plugin_my_requests Requests answered.\n# TYPE plugin_my_requests counter\n"
        'plugin_my_requests{code="200"} 17\n'
        "# HELP plugin_my_seconds seconds\n# TYPE plugin_my_seconds histogram\n"
        'plugin_my_seconds_bucket{le="1"} 1\nplugin_my_seconds_bucket{le="+Inf"} 1\n'
        "plugin_my_seconds_sum 0.5\nplugin_my_seconds_count 1\n"
    )
    assert [family.name for family in parse_text(text.encode())] == ["plugin_my_requests", "plugin_my_seconds"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a 1\n", "a: expected a TYPE of counter, gauge, histogram, got untyped"),
        ("# TYPE a summary\na_count 1\n", "expected a TYPE of counter, gauge, histogram, got summary"),
        ("# TYPE a gauge\na 1 1500000000000\n", "line 2: a: expected the end of the line"),
        ("# TYPE a gauge\na 1\na 2\n", "plugin_my_a: the same labels twice"),
        ('# TYPE a gauge\na{x="1",y="2"} 1\na{y="2",x="1"} 2\n', "plugin_my_a: the same labels twice"),
        ('# TYPE h histogram\nh_sum{le="1"} 3\nh_count{le="1"} 3\n', "line 2: h_sum: expected no label le"),
        ('# TYPE h histogram\nh_bucket{le="1"} 1\nh_count{le="1"} 3\n', "line 3: h_count: expected no label le"),
        ("# OPTION ttl\n", "expected # OPTION ttl N"),
        ("# OPTION ttl x\n", "ttl: expected seconds, got 'x'"),
        ("# OPTION size 5\n", "expected the option ttl, got 'size'"),
        ("# TYPE metrics_timer_seconds gauge\nmetrics_timer_seconds 1\n", "this one is pymon's"),
        ("number\tgauge\t42\n", "expected a number, got 'gauge'"),
    ],
)
def test_a_bad_text_costs_the_output(text, expected):
    with pytest.raises(ExpositionError) as caught:
        prom(text)
    assert expected in str(caught.value)


def test_lines_of_a_histogram_are_one_whatever_the_order_of_their_labels():
    output = prom(
        '# TYPE h histogram\nh_bucket{a="1",b="2",le="1"} 1\nh_sum{b="2",a="1"} 5\nh_count{a="1",b="2",c=""} 3\n'
        'h_bucket{le="NaN"} 1\nh_bucket{le="nan"} 1\nh_bucket{le="-0"} 1\nh_bucket{le="0"} 1\n'
    )
    text = write(output.families, openmetrics=False)
    assert broken_rules(text) == []
    assert b'plugin_my_h_sum{a="1",b="2"} 5\nplugin_my_h_count{a="1",b="2"} 3\n' in text


def test_an_option_behind_the_first_line_is_a_comment():
    assert prom("# TYPE a gauge\n# OPTION ttl 5\na 1\n").ttl_seconds is None


@pytest.mark.parametrize("path", [TABS, TEXT])
def test_bytes_that_are_no_text_are_refused(path):
    with pytest.raises(ExpositionError, match="expected UTF-8, got byte 0xff at 2"):
        parse_output("my", path, b"a\n\xff")


@pytest.mark.parametrize("path", [TABS, TEXT])
@settings(max_examples=200, deadline=None)
@given(data=st.text(alphabet='ab\t{}="\\,# \n1gaugeTYPEOPTIONtl', max_size=60))
def test_any_output_is_metrics_or_an_error_on_one_line(path, data):
    said = ""
    written = b""
    try:
        written = write(parse_output("my", path, data.encode()).families, openmetrics=False)
    except ExpositionError as error:
        said = str(error)
    assert "\n" not in said
    parse_text(written)

import shutil

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pymon.catalogue.program_fields import (
    NTP_DECIMAL_FIELDS,
    NTP_FIELDS,
    NTP_INTEGER_FIELDS,
    NTP_MODES,
    NTP_PEER_FIELDS,
    NTP_PEER_STATES,
    NTP_REFIDS,
    NTP_SYSPEER_FIELDS,
)
from pymon.sources.errors import SourceError
from pymon.sources.programs import Ntpq
from pymon.sources.programs.background import Problems
from pymon.sources.programs.ntp_text import parse_peers, parse_statistics
from tests.sources.programs.scripts import calls, capture, run_once, script

HEADER = capture("ntpq-apeers.txt").splitlines(keepends=True)[:2]
LINE = "*198.58.110.84   d8dafeca 33560   2 u  673 1024  377   44.348    0.176   2.328"
BILLION = 10**9


def peers_of(*lines):
    problems = Problems("ntp")
    return parse_peers("".join(HEADER) + "\n".join(lines) + "\n", problems), problems.found


def peer(line):
    peers, problems = peers_of(line)
    assert not problems
    ((remote, cells),) = peers.cells.items()
    return remote, cells


def statistics_of(output, system=None):
    problems = Problems("ntp")
    return parse_statistics(output, system, problems), problems.found


def answering(directory, apeers="", statistics="", stderr="", status=0):
    """Install an ntpq that prints one text for apeers and another for everything else."""
    (directory / "apeers").write_text(apeers)
    (directory / "statistics").write_text(statistics)
    (directory / "stderr").write_text(stderr)
    script(
        directory,
        "ntpq",
        f'cd "{directory}"; echo "$*" >>ntpq.argv; cat stderr >&2\n'
        f'case "$*" in *apeers*) cat apeers;; *) cat statistics;; esac; exit {status}',
    )


def row(table, at=0):
    return {name: value for name in table.columns if (value := table.get(at, name)) is not None}


def signed(value):
    return value - 2**64 if value >= 2**63 else value


def test_a_captured_daemon(started, tmp_path, clock, woken):
    answering(tmp_path, capture("ntpq-apeers.txt"), capture("ntpq-statistics.txt"))
    program = started(Ntpq)
    run_once(program, clock, woken)
    filled = program.fill(clock())
    assert (filled.available, filled.cached, filled.problems) == (True, False, ())
    ntp, syspeer, peers = program.tables
    assert (len(ntp), len(syspeer), len(peers)) == (1, 1, 13)
    assert row(ntp).keys() == set(NTP_FIELDS)
    assert row(syspeer).keys() == set(NTP_SYSPEER_FIELDS)
    assert all(row(peers, at).keys() == set(NTP_PEER_FIELDS) for at in range(13))
    assert calls(tmp_path, "ntpq") == [
        "-n -c apeers",
        "-n -c iostats -c kerninfo -c monstats -c sysinfo -c sysstats -c readvar 33560",
    ]
    assert program.fill(clock()).cached


def test_numbers_of_the_captured_daemon():
    found, problems = statistics_of(capture("ntpq-statistics.txt"), 33560)
    assert not problems
    daemon = found.daemon
    assert daemon["time since reset"] == 2767601
    assert daemon["received packets"] == 14767
    assert daemon["pll frequency"] == 782_669_000
    assert daemon["maximum error"] == 299_354_000_000
    assert daemon["precision"] == 1_000_000
    assert daemon["calibration interval"] == 4
    assert daemon["enabled"] == 1
    assert daemon["maximum kilobytes"] == 1024
    assert daemon["system peer mode"] == NTP_MODES.index("client")
    assert daemon["log2 precision"] == -22
    assert daemon["root delay"] == 67_416_000_000
    assert daemon["broadcast delay"] == -50 * BILLION
    assert daemon["reference time"] == 0xDD9E1C1E67C8D279
    assert daemon["reference time:legacy"] == 3718126622 * BILLION + 174_121_432
    assert daemon["restricted"] == 11
    assert daemon["processed for time"] == 14214
    syspeer = found.syspeer
    assert syspeer["leap"] == 0
    assert syspeer["precision"] == -23
    assert syspeer["rootdisp"] == 18_600_000_000
    assert syspeer["reftime"] == 0xDD9E1D2573E5EC1D
    assert syspeer["rec"] == 0xDD9E1D7B65AB93C9
    assert syspeer["rec:legacy"] == 3718126971 * BILLION + 170_574_330
    assert syspeer["offset"] == 4_510_000_000
    assert syspeer["xleave"] == 44_000_000


def test_numbers_of_the_captured_peers():
    problems = Problems("ntp")
    peers = parse_peers(capture("ntpq-apeers.txt"), problems)
    assert not problems.found
    assert peers.system == 33560
    assert peers.cells["198.58.110.84"] == {
        "delay": 44_348_000_000,
        "offset": 176_000_000,
        "jitter": 2_328_000_000,
        "poll": 1024,
        "reach": 0,
        "refid": 0,
        "t": 0,
        "st": 2,
        "state": NTP_PEER_STATES.index("*"),
        "when": 673,
    }
    pool = peers.cells["0.smartos.pool."]
    assert (pool["refid"], pool["t"], pool["when"], pool["reach"], pool["state"]) == (-1, -1, -1, 8, 0)
    local = peers.cells["LOCAL(0)"]
    assert (local["refid"], local["t"], local["st"]) == (NTP_REFIDS.index(".LOCL."), 2, 14)
    assert peers.cells["99.119.214.210"]["refid"] == -1  # GPS_NMEA(0) touches the association
    assert peers.cells["99.119.214.210"]["st"] == 2
    assert peers.cells["198.206.133.14"]["offset"] == -1_116_000_000
    assert peers.cells["2001:470:0:643:"]["reach"] == 7


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        # A sign before positive numbers, as of ntp 4.2.8p15.
        (LINE.replace("   0.176", "  +0.176"), {"offset": 176_000_000}),
        (LINE.replace("   0.176", " -127.48"), {"offset": -127_480_000_000}),
        (LINE.replace("377", "  0"), {"reach": 8}),
        (LINE.replace("377", "376"), {"reach": 1}),
        (LINE.replace("377", " 17"), {"reach": 4}),
        (LINE.replace(" 673", "  34m"), {"when": 2040}),
        (LINE.replace(" 673", "  17h"), {"when": 61200}),
        (LINE.replace(" 673", "  12d"), {"when": 1036800}),
        (LINE.replace(" 673", "   -"), {"when": -1}),
        (LINE.replace("1024", " 68m"), {"poll": 4080}),
        (LINE.replace("d8dafeca", "a270d0d "), {"refid": 0}),  # 10.39.13.13, which ntpq writes without its first 0
        (LINE.replace("d8dafeca", ".WWVH.  "), {"refid": len(NTP_REFIDS) - 1}),
        (LINE.replace("d8dafeca", "(loop)  "), {"refid": -1}),
        (LINE.replace("d8dafeca", "        "), {"refid": -1}),
        (LINE.replace("d8dafeca 33560", "GPS_NMEA(0)12018"), {"refid": -1, "st": 2}),
        (LINE.replace(" u ", " M "), {"t": 6}),
        (LINE.replace(" u ", " 5 "), {"t": -1}),
        (
            LINE.replace("0.176", "0.1764").replace("44.348", "44.3481"),
            {"offset": 176_400_000, "delay": 44_348_100_000},
        ),
    ],
)
def test_forms_of_a_peer(line, expected):
    _, cells = peer(line)
    assert {name: cells[name] for name in expected} == expected
    assert cells.keys() == set(NTP_PEER_FIELDS)


@pytest.mark.parametrize(("flag", "state"), [*((flag, i) for i, flag in enumerate(NTP_PEER_STATES)), ("?", -1)])
def test_the_state_is_the_character_before_the_name(flag, state):
    remote, cells = peer(flag + LINE[1:])
    assert remote == "198.58.110.84"
    assert cells["state"] == state


@pytest.mark.parametrize(
    ("line", "lost"),
    [
        (LINE.replace("44.348", "44,348"), "delay"),
        (LINE.replace("0.176", "nan"), "offset"),
        (LINE.replace("2.328", "inf"), "jitter"),
        (LINE.replace("1024", "often"), "poll"),
        (LINE.replace("377", "389"), "reach"),
        (LINE.replace("377", "777"), "reach"),
        (LINE.replace("  2 u", " -- u"), "st"),
        (LINE.replace(" 673", "late"), "when"),
    ],
)
def test_a_word_that_does_not_parse_costs_its_cell(line, lost):
    peers, problems = peers_of(line)
    assert peers.cells["198.58.110.84"].keys() == set(NTP_PEER_FIELDS) - {lost}
    assert [problem.reason for problem in problems] == ["parse"]
    assert f"ntp: apeers: 198.58.110.84: {lost}: expected a number" in str(problems[0])


@pytest.mark.parametrize("line", ["*", "*198.58.110.84", LINE.replace("33560", "x"), LINE[:40], "\x1b[2J" * 50])
def test_a_line_that_is_no_peer_costs_itself(line):
    peers, problems = peers_of(line, "+" + LINE[1:].replace("198.58.110.84", "10.0.0.1     "))
    assert peers.cells.keys() == {"10.0.0.1"}
    assert [problem.reason for problem in problems] == ["parse"]
    assert str(problems[0]).isprintable()


def test_two_peers_of_one_name_and_two_system_peers():
    peers, problems = peers_of(
        LINE.replace("198.58.110.84 ", "2001:470:0:643:"),
        LINE.replace("198.58.110.84 ", "2001:470:0:643:").replace("33560", "2"),
    )
    assert list(peers.cells) == ["2001:470:0:643:"]
    assert peers.system == 33560
    assert [problem.reason for problem in problems] == ["duplicate"]


def test_a_captured_ntpsec():
    problems = Problems("ntp")
    peers = parse_peers(capture("ntpsec-apeers.txt"), problems)
    assert peers.system is None
    assert list(peers.cells) == ["LOCAL(0)", "192.0.2.7", "2001:db8:1234:5"]
    assert peers.cells["LOCAL(0)"]["st"] == 5
    assert peers.cells["LOCAL(0)"]["reach"] == 7
    assert peers.cells["192.0.2.7"]["refid"] == NTP_REFIDS.index(".INIT.")
    assert peers.cells["192.0.2.7"]["jitter"] == 100_000
    found = parse_statistics(capture("ntpsec-statistics.txt"), 17767, problems)
    assert not problems.found
    # It has no `broadcast delay`.
    assert found.daemon.keys() == set(NTP_FIELDS) - {"broadcast delay"}
    assert found.daemon["time since reset"] == 20
    assert found.daemon["received packets"] == 4
    assert found.daemon["addresses"] == 1
    assert found.daemon["reclaim older than"] == 3600
    assert found.daemon["enabled"] == 3
    assert found.daemon["estimated error"] == 16_000
    assert found.daemon["leap indicator"] == 3
    assert found.daemon["processed for time"] == 9
    # Nor xleave.
    assert found.syspeer.keys() == set(NTP_SYSPEER_FIELDS) - {"xleave"}
    assert found.syspeer["dispersion"] == 7_937_500_000_000
    assert found.syspeer["rec"] == 0xEEADD40841C486A7


@pytest.mark.parametrize(
    "output", ["look at me, I am garbage", "\n\n", HEADER[0].replace("assid ", "") + LINE, HEADER[1]]
)
def test_what_is_no_table_of_peers_is_an_error(output):
    with pytest.raises(SourceError, match="ntpq: apeers: expected a line 'remote refid assid") as caught:
        parse_peers(output, Problems("ntp"))
    assert caught.value.reason == "parse"


@pytest.mark.parametrize(
    ("line", "name", "value"),
    [
        ("pll offset:            +0.313", "pll offset", 313_000_000),
        ("maximum error:       1.6e+07", "maximum error", 16 * 10**15),
        ("leap indicator:     11", "leap indicator", 3),
        ("leap indicator:     01", "leap indicator", 1),
        ("system peer mode:   sym_passive", "system peer mode", 7),
        ("system peer mode:   mode#9", "system peer mode", -1),
        ("enabled:              0x3", "enabled", 3),
        ("calibration interval   256", "calibration interval", 256),
        ("uptime:                  12D 03:04:05", "uptime", 1_047_845),
        ("sysstats reset:             00:00:20   1D 00:00:20", "sysstats reset", 20),
        ("packets sent:                 123456     1234.0p/s", "packets sent", 123456),
        ("declined:                         12          7     2.0s/p     3.0s/p", "declined", 12),
        ("enabled:                           3", "enabled", 3),
        ("addresses in use:                 17", "addresses", 17),
        ("uptime:                 18446744073709551615", "uptime", 2**64 - 1),
        ("reference time:     00000000.00000001  Mon, Jan  1 1900  0:00:00.000", "reference time:legacy", 100_000_000),
    ],
)
def test_forms_of_a_statistic(line, name, value):
    found, problems = statistics_of(line + "\n")
    assert not problems
    assert found.daemon[name] == value


@pytest.mark.parametrize("name", [*NTP_INTEGER_FIELDS, *NTP_DECIMAL_FIELDS, "reference time"])
def test_a_statistic_that_does_not_parse_costs_itself(name):
    whole, _ = statistics_of(capture("ntpq-statistics.txt"), 33560)
    lines = [
        f"{name}:  twelve" if line.startswith((f"{name}:", f"{name}  ")) and "(no" not in line else line
        for line in capture("ntpq-statistics.txt").splitlines()
        if "(no time)" not in line
    ]
    found, problems = statistics_of("\n".join(lines), 33560)
    assert whole.daemon.keys() - found.daemon.keys() == {
        key for key in whole.daemon if key.removesuffix(":legacy") == name
    }
    assert found.syspeer == whole.syspeer
    assert [problem.reason for problem in problems] == ["parse"]
    assert str(problems[0]).startswith(f"ntp: {name}: expected")


def test_what_nobody_has_heard_of_is_passed_over():
    found, problems = statistics_of("lamport violations:    7\nkernel status:   pll\nsomething else\n: 3\n\n")
    assert (found.daemon, problems) == ({}, [])


def test_no_time_is_absent_and_no_problem_and_0_where_cmon_agent_says_so():
    found, problems = statistics_of(
        "reference time:     (no time)\nassocid=7 status=0000\nreftime=(no time), rec=(no time)", 7
    )
    assert (found.daemon, found.syspeer, problems) == ({"reference time:legacy": 0}, {}, [])


def test_variables_of_another_association_are_not_the_system_peer_s():
    found, _ = statistics_of("associd=8 status=0000\nstratum=4, hmode=3\nassocid=7 status=0000\nstratum=2,\n", 7)
    assert found.syspeer == {"stratum": 2}


def test_quoted_values_hold_no_variables():
    found, problems = statistics_of('associd=7 status=0\nsrchost="a, stratum=9, leap=x", stratum=2, leap=01\n', 7)
    assert (found.syspeer, problems) == ({"stratum": 2, "leap": 1}, [])


@pytest.mark.parametrize("variable", ["leap=3", "stratum=two", "offset=1.2.3", "rec=dd9e1d7b", "precision=-"])
def test_a_variable_that_does_not_parse_costs_itself(variable):
    found, problems = statistics_of(f"associd=7 status=0\n{variable}, hmode=3\n", 7)
    assert found.syspeer == {"hmode": 3}
    assert [problem.reason for problem in problems] == ["parse"]


def test_without_a_system_peer_it_has_no_row(started, tmp_path, clock, woken):
    answering(tmp_path, capture("ntpq-apeers.txt").replace("\n*", "\n+"), capture("ntpq-statistics.txt"))
    program = started(Ntpq)
    run_once(program, clock, woken)
    assert program.fill(clock()).available
    ntp, syspeer, peers = program.tables
    assert (len(ntp), len(syspeer), len(peers)) == (1, 0, 13)
    assert calls(tmp_path, "ntpq")[1] == "-n -c iostats -c kerninfo -c monstats -c sysinfo -c sysstats"
    assert signed(ntp.get(0, "log2 precision")) == -22


def test_a_daemon_without_peers_has_statistics(started, tmp_path, clock, woken):
    answering(tmp_path, "", capture("ntpq-statistics.txt"), "No association ID's returned\n")
    program = started(Ntpq)
    run_once(program, clock, woken)
    assert program.fill(clock()).available
    assert [len(table) for table in program.tables] == [1, 0, 0]


@pytest.mark.parametrize(
    "said", ["/usr/sbin/ntpq: read: Connection refused\n", "***Socket error; probably ntpd is not running\n"]
)
def test_no_daemon_is_no_data_whatever_the_exit_status(started, tmp_path, clock, woken, said):
    answering(tmp_path, "", "", said)
    program = started(Ntpq)
    run_once(program, clock, woken)
    filled = program.fill(clock())
    assert not filled.available
    assert [(problem.reason, str(problem)) for problem in filled.problems] == [("nodata", "ntpq: no ntpd is running")]


def test_a_daemon_that_does_not_answer(started, tmp_path, clock, woken):
    answering(tmp_path, "", "", "127.0.0.1: timed out, nothing received\n***Request timed out\n")
    program = started(Ntpq)
    run_once(program, clock, woken)
    (problem,) = program.fill(clock()).problems
    assert problem.reason == "exit"
    assert str(problem) == "ntpq: printed nothing, exit status 0, '127.0.0.1: timed out, nothing received'"


def test_peers_are_shown_when_the_second_call_fails(started, tmp_path, clock, woken):
    answering(tmp_path, capture("ntpq-apeers.txt"), "")
    program = started(Ntpq)
    run_once(program, clock, woken)
    filled = program.fill(clock())
    assert filled.available
    assert [problem.reason for problem in filled.problems] == ["exit"]
    assert [len(table) for table in program.tables] == [0, 0, 13]


def test_garbage_is_an_error(started, tmp_path, clock, woken):
    answering(tmp_path, "garbage\n", "garbage\n")
    program = started(Ntpq)
    run_once(program, clock, woken)
    filled = program.fill(clock())
    assert not filled.available
    assert [problem.reason for problem in filled.problems] == ["parse"]


WORDS = st.sampled_from(
    ["uptime:", "associd=7", "leap=01,", "rec=", "0x1", "-", "3.5", "(no time)", "\n", " ", "*", "\u0660"]
)


@given(st.lists(WORDS | st.text(max_size=8)).map("".join))
def test_any_text_is_numbers_that_cells_can_hold_or_problems(text):
    problems = Problems("ntp")
    peers = parse_peers("".join(HEADER) + text, problems)
    found = parse_statistics(text, 7, problems)
    for cells in (found.daemon, found.syspeer, *peers.cells.values()):
        assert all(-(2**63) <= value < 2**64 for value in cells.values())
    assert all(str(problem).isprintable() for problem in problems.found)


def test_the_real_ntpq_without_a_daemon_or_with_one(clock, woken):
    if shutil.which("ntpq", path="/usr/sbin:/usr/bin:/sbin:/bin") is None:
        pytest.skip("ntpq is not installed")
    program = Ntpq(clock=clock)
    program.start(woken)
    try:
        run_once(program, clock, woken)
        filled = program.fill(clock())
        assert filled.available or {problem.reason for problem in filled.problems} <= {"nodata", "exit"}
    finally:
        program.close()

"""What the terminal shows, without a terminal."""

import pytest

from pymon.top import screen, table
from pymon.top.document import decoded
from pymon.top.screen import Watch, draw
from pymon.top.text import columns_of
from tests.top.summaries import document, row

HOSTILE = (
    "[bold]x[/bold]", "\x1b[2J\x1b[31mred", "a\u202egnp.exe", "zero\u200bwidth", "line\nbreak",
    "\u05e9\u05dc\u05d5\u05dd",
    "\u4e2d" * 200, "e\u0301" * 50, "x" * 256, "",
)  # fmt: skip


def watch(*rows, seconds=2, **more):
    found = Watch("http://h:1", **more)
    for time in (100, 100 + seconds):
        grown = [[*one[:8], one[8] * time if one[8] is not None else None, *one[9:]] for one in rows]
        found.model.update(decoded(document(*grown, time=time)))
    found.read_at = 100.0
    found.order()
    return found


def text(lines):
    return ["".join(part for part, _ in line) for line in lines]


def names(found):
    return [one.row.name for one in found.rows]


@pytest.mark.parametrize("mode", ["table", "one", "help"])
@pytest.mark.parametrize("width", [1, 2, 20, 39, 40, 41, 80, 81, 132, 400])
@pytest.mark.parametrize("height", [1, 5, 7, 8, 24, 60])
@pytest.mark.parametrize("ascii_only", [False, True])
def test_every_line_fits_whatever_the_names_and_numbers(mode, width, height, ascii_only):
    rows = [
        row(
            name,
            uuid=str(at),
            cpu_seconds=10.0**at,
            memory_bytes=10.0 ** (30 * at),
            state="e\u202e" * 99,
            swap_bytes=-1,
        )
        for at, name in enumerate(HOSTILE)
    ]
    found = watch(*rows, ascii_only=ascii_only, mode=mode, words="", notes="n" * 50)
    found.model.hosts["n"].hostname = "h\x1b" * 300
    found.chosen = "1"
    for problem in ("", "p\n\x1b" * 300):
        found.problem = problem
        lines = text(draw(found, width, height))
        assert len(lines) == height
        for line in lines:
            assert columns_of(line) <= width
            assert line.isprintable()
            assert line.isascii() or not ascii_only


def test_a_terminal_that_is_too_small_is_told_so():
    assert " ".join(text(draw(watch(row("a")), 20, 5))).strip() == "20x5 is too small: 40x8 is the least. q ends."


def test_at_80_columns_there_are_the_numbers_that_matter():
    lines = text(draw(watch(row("web", cpu_seconds=0.5, memory_bytes=1 << 20, memory_limit_bytes=1 << 22)), 80, 24))
    assert lines[0].startswith("pymon top  http://h:1  node ")
    assert lines[1].startswith("1 container  CPU 0.50  mem 1.0M  net -/s in -/s out")
    assert lines[2].split() == [
        "CONTAINER",
        "CPUv",
        "MEM",
        "RX/s",
        "TX/s",
        "RD/s",
        "WR/s",
        "LIM",
        "CPU",
        "PAST",
        "STATE",
    ]
    assert lines[3].split() == ["web", "0.50", "1.0M", "-", "-", "-", "-", "25%", "█", "running"]


def test_rows_are_sorted_by_any_column_and_those_without_a_value_are_last():
    rows = [row("b", cpu_seconds=1), row("a", cpu_seconds=3), row("none"), row("c", cpu_seconds=2, memory_bytes=9)]
    found = watch(*rows)
    assert names(found) == ["a", "c", "b", "none"]
    found.down = False
    found.order()
    assert names(found) == ["b", "c", "a", "none"]
    found.sort_by(-1)
    assert (found.sort, found.down, names(found)) == ("name", False, ["a", "b", "c", "none"])
    for _ in table.NAMES:
        found.sort_by(1)
        assert f"{dict(zip(table.NAMES, table.COLUMNS, strict=True))[found.sort].title}" in text(draw(found, 80, 24))[2]
    assert found.sort == "name"


def test_all_words_of_a_filter_must_be_there():
    found = watch(row("web-1", image="nginx"), row("web-2", image="httpd"), row("db", owner="Shop"), words="WEB ngi")
    assert names(found) == ["web-1"]
    assert "1 of 3 containers" in text(draw(found, 80, 24))[1]
    found.words = "shop"
    found.order()
    assert names(found) == ["db"]
    found.words = "no-such"
    found.order()
    assert text(draw(found, 80, 24))[3] == "no container has these words"


def test_the_cursor_stays_on_its_container_and_in_view():
    found = watch(*(row(f"{number:03}", cpu_seconds=1 + number) for number in range(100)))
    found.chosen = found.rows[0].row.uuid
    for _ in range(30):
        found.move(1)
    lines = draw(found, 80, 24)
    assert next(part for line in lines for part, style in line if style == "chosen").startswith("069")
    found.down = False
    found.order()
    lines = draw(found, 80, 24)
    assert next(part for line in lines for part, style in line if style == "chosen").startswith("069")
    found.move(-1000)
    assert found.chosen == "000"
    found.move(1000)
    assert found.chosen == "099"
    draw(found, 80, 24)
    draw(found, 80, 60)
    assert found.rows[found.top].row.name == "044", "no empty rows below the last one"


def test_the_state_is_there_in_a_narrow_terminal_if_a_container_does_not_run():
    assert "STATE" not in text(draw(watch(row("a")), 50, 24))[2]
    assert text(draw(watch(row("a", state="exited")), 50, 24))[3].split()[-1] == "exited"
    assert text(draw(watch(row("a", health="unhealthy")), 50, 24))[3].split()[-1] == "unhealthy"


def test_old_numbers_are_marked():
    found = watch(row("a"))
    found.problem = "no connection to http://h:1: Connection refused"
    lines = draw(found, 80, 24)
    assert "last numbers: " in text(lines)[0]
    assert text(lines)[1].strip() == found.problem
    assert lines[1][0][1] == "bad"
    found.problem = ""
    found.model.update(decoded(document(error="it timed out")))
    found.order()
    lines = text(draw(found, 80, 24))
    assert lines[1].strip() == "not answering (last numbers, marked !): node: it timed out"
    assert lines[3].startswith("!a ")
    found.chosen, found.mode = "a", "one"
    assert any(
        line.strip() == "node node does not answer: these are its last numbers" for line in text(draw(found, 80, 24))
    )


def test_a_long_problem_has_three_lines_at_most():
    found = watch(row("a"))
    found.problem = "word " * 50
    lines = draw(found, 80, 24)
    assert [line[0][1] for line in lines[1:5]] == ["bad", "bad", "bad", "bold"]


def test_one_container():
    found = watch(
        row("web", cpu_seconds=0.5, image="nginx:1", oom_kills=2, memory_bytes=1 << 20), chosen="web", mode="one"
    )
    lines = text(draw(found, 80, 24))
    assert lines[2].strip() == "web"
    assert any("OOM kills 2" in line for line in lines)
    assert any("image     nginx:1" in line for line in lines)
    (cpu,) = [line for line in lines if line.startswith("CPU cores")]
    assert cpu.split() == ["CPU", "cores", "0.50", "0.50", "█"]
    tall = text(draw(found, 80, 60))
    assert len([line for line in tall if "█" in line]) == 2 * screen._MAX_CHART_HEIGHT
    found.model.update(decoded(document(time=110)))
    assert "this container is gone" in text(draw(found, 80, 24))[2]


def test_what_is_true_of_the_session_is_said():
    found = watch(row("a"), notes="ASCII only")
    assert text(draw(found, 80, 24))[-1].startswith("[ASCII only]")
    found.model.hosts["n"].failing = ["zfs"]
    assert "failed collectors: zfs" in text(draw(found, 120, 24))[-1]
    found.model.left_out = 7
    assert "7 more not shown" in text(draw(found, 80, 24))[1]


@pytest.mark.parametrize(("code", "said"), [(137, "exit 137"), (None, "stopped"), (1e300, "exit 1")])
def test_one_that_has_ended_comes_last_with_its_exit_code(code, said):
    ended = row("gone", cpu_seconds=9, state="stopped", end_seconds=104.0, exit_code=code)
    found = watch(ended, row("db", cpu_seconds=1))
    assert names(found) == ["db", "gone"]
    lines = text(draw(found, 80, 24))
    assert lines[1].startswith("1 container  1 ended  CPU 1.00")
    assert said in lines[4]
    assert max(map(columns_of, lines)) <= 80

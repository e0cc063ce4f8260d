import threading
import time

import pytest

from pymon._native.table import Table
from pymon.sources.programs import background
from pymon.sources.programs.background import PROBLEMS_LIMIT, RETRY_SECONDS, Program
from tests.sources.programs.scripts import calls, run_once, script, wait_until


class Echo(Program):
    """Table echo of one cell: what the program `echo-it` prints."""

    name = "echo"
    ttl_seconds = 60.0
    deadline_seconds = 10.0

    def __init__(self, **options):
        self.table = Table("echo", ("value",))
        super().__init__((self.table,), **options)

    def _query(self, run, problems):
        said = run.output("echo-it", "hello")
        if b"odd" in said:
            problems.misread("value", "no odd text", said.decode())
        return int(said.split()[0])

    def _publish(self, result, rows, *, new):
        if new:
            self.table.clear()
            self.table.set(self.table.add_row(), "value", result)
        return ()

    @property
    def shown(self):
        return self.table.get(0, "value") if len(self.table) else None


def saying(directory, text):
    script(directory, "echo-it", f'echo "$@" >>"{directory}/echo-it.argv"; echo {text}')


def test_nothing_is_run_before_somebody_asks(started, tmp_path, clock):
    saying(tmp_path, 1)
    program = started(Echo)
    filled = program.fill(clock())
    assert (filled.available, filled.cached, filled.timer_ns, filled.problems) == (False, False, 0, ())
    assert not program.busy
    assert calls(tmp_path, "echo-it") == []


def test_the_first_fill_of_a_run_is_new_and_later_ones_are_cached(started, tmp_path, clock, woken):
    saying(tmp_path, 1)
    program = started(Echo)
    assert program.refresh_due(clock())
    woken.wait()
    first, second = program.fill(clock()), program.fill(clock())
    assert (first.available, first.cached) == (True, False)
    assert (second.available, second.cached) == (True, True)
    assert first.timer_ns == second.timer_ns > 0
    assert program.shown == 1


def test_within_its_time_to_live_it_is_not_run_again(started, tmp_path, clock, woken):
    saying(tmp_path, 1)
    program = started(Echo)
    run_once(program, clock, woken)
    clock.now += 59.9
    assert not program.refresh_due(clock())
    assert not program.busy
    assert calls(tmp_path, "echo-it") == ["hello"]


def test_at_its_time_to_live_it_is_run_again_and_the_old_number_is_shown_meanwhile(started, tmp_path, clock, woken):
    saying(tmp_path, 1)
    program = started(Echo)
    run_once(program, clock, woken)
    program.fill(clock())
    script(
        tmp_path,
        "echo-it",
        f'mkdir "{tmp_path}/begun" || exit; while ! [ -e "{tmp_path}/go" ]; do sleep 0.01; done; echo 2',
    )
    clock.now += 60
    assert program.refresh_due(clock())
    wait_until((tmp_path / "begun").exists, "it was not run again")
    assert program.busy
    assert program.refresh_due(clock())
    clock.now += 9
    assert program.fill(clock())[:2] == (True, True)
    assert program.shown == 1
    (tmp_path / "go").touch()
    woken.wait()
    assert program.fill(clock())[:2] == (True, False)
    assert program.shown == 2  # and not the failure of a second one beside it


def test_past_time_to_live_and_deadline_an_old_number_is_absent(started, tmp_path, clock, woken):
    saying(tmp_path, 1)
    program = started(Echo)
    run_once(program, clock, woken)
    clock.now += 70
    assert program.fill(clock()).available
    clock.now += 0.1
    filled = program.fill(clock())
    assert (filled.available, filled.cached) == (False, False)
    assert filled.timer_ns > 0
    assert program.shown is None


def test_a_failed_run_is_told_once_and_the_last_good_number_stays(started, tmp_path, clock, woken):
    saying(tmp_path, 1)
    program = started(Echo)
    run_once(program, clock, woken)
    program.fill(clock())
    script(tmp_path, "echo-it", "echo 'pool is suspended' >&2; exit 1")
    clock.now += 60
    run_once(program, clock, woken)
    filled = program.fill(clock())
    assert (filled.available, filled.cached) == (True, True)
    assert [(problem.reason, str(problem)) for problem in filled.problems] == [
        ("exit", "echo-it: exit status 1, 'pool is suspended'")
    ]
    assert program.fill(clock()).problems == ()
    assert program.shown == 1


def test_a_failed_run_is_repeated_sooner(started, tmp_path, clock, woken):
    script(tmp_path, "echo-it", "exit 1")
    program = started(Echo)
    run_once(program, clock, woken)
    assert not program.fill(clock()).available
    saying(tmp_path, 3)
    clock.now += RETRY_SECONDS - 0.1
    assert not program.refresh_due(clock())
    clock.now += 0.1
    run_once(program, clock, woken)
    assert program.fill(clock()).available
    assert program.shown == 3


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("exec sleep 1000", "deadline"),
        ("exec yes", "size"),
        ("kill -KILL $$", "exit"),
        ("echo not a number", "bug"),
        ("", "bug"),
    ],
)
def test_every_failure_has_its_reason(started, tmp_path, clock, woken, monkeypatch, body, reason):
    monkeypatch.setattr(Echo, "deadline_seconds", 1.0)
    script(tmp_path, "echo-it", body)
    program = started(Echo)
    run_once(program, clock, woken)
    filled = program.fill(clock())
    assert not filled.available
    assert [problem.reason for problem in filled.problems] == [reason]
    assert "\n" not in str(filled.problems[0])


def test_a_program_that_is_not_there_is_looked_for_again(started, tmp_path, clock, woken):
    program = started(Echo)
    run_once(program, clock, woken)
    assert [problem.reason for problem in program.fill(clock()).problems] == ["nodata"]
    saying(tmp_path, 4)
    clock.now += RETRY_SECONDS
    run_once(program, clock, woken)
    assert program.fill(clock()).available


def test_a_cell_that_does_not_parse_is_told_and_the_rest_is_shown(started, tmp_path, clock, woken):
    saying(tmp_path, "5 odd")
    program = started(Echo)
    run_once(program, clock, woken)
    filled = program.fill(clock())
    assert filled.available
    assert [str(problem) for problem in filled.problems] == [r"echo: value: expected no odd text, got '5 odd\n'"]


def test_problems_of_runs_that_nobody_fills_are_bounded(started, tmp_path, clock, woken):
    script(tmp_path, "echo-it", "exit 1")
    program = started(Echo)
    program._problems = [None] * PROBLEMS_LIMIT
    run_once(program, clock, woken)
    problems = program.fill(clock()).problems
    assert len(problems) == PROBLEMS_LIMIT
    assert problems[-1].reason == "exit"


def test_it_runs_again_by_itself_for_as_long_as_somebody_asks(started, tmp_path, woken, monkeypatch):
    monkeypatch.setattr(Echo, "ttl_seconds", 0.05)
    saying(tmp_path, 1)
    program = started(Echo)
    program._clock = time.monotonic
    program.refresh_due(time.monotonic())
    for _ in range(4):
        woken.wait()


def test_one_that_nobody_asks_for_any_more_rests(started, tmp_path, clock, woken):
    saying(tmp_path, 1)
    program = started(Echo)
    run_once(program, clock, woken)
    clock.now += background.IDLE_SECONDS + 1
    assert not program.busy
    with program._changed:
        program._changed.notify_all()
    assert len(calls(tmp_path, "echo-it")) == 1
    run_once(program, clock, woken)
    assert len(calls(tmp_path, "echo-it")) == 2


def test_a_loop_that_has_closed_is_no_failure(tmp_path, clock):
    saying(tmp_path, 1)
    woken = threading.Event()

    def wake():
        woken.set()
        raise RuntimeError("Event loop is closed")

    program = Echo(directories=(str(tmp_path),), clock=clock)
    program.start(wake)
    program.refresh_due(clock())
    assert woken.wait(30)
    woken.clear()
    clock.now += 60
    program.refresh_due(clock())
    assert woken.wait(30)
    program.close()


def test_close_kills_what_is_running(tmp_path, clock, woken):
    script(tmp_path, "echo-it", f'touch "{tmp_path}/begun"; exec sleep 1000')
    program = Echo(directories=(str(tmp_path),), clock=clock)
    program.start(woken)
    program.refresh_due(clock())
    wait_until((tmp_path / "begun").exists, "the program has not begun")
    program.close()
    assert not program._thread.is_alive()
    program.close()


def test_close_of_one_that_was_never_started():
    program = Echo()
    program.close()
    assert program._thread is None

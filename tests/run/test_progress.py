"""What long work shows: at once what it does, and that it goes on, on a terminal and in a log file."""

import os
import pty
import select
import sys
import termios
import time

import pytest

from reason4rec.run import progress


@pytest.fixture
def log(tmp_path, monkeypatch):
    """Puts a log file in the place of stderr when first called; then what stands in it."""

    def text():
        path = tmp_path / "log"
        # Not before the test itself runs, since pytest puts its own in place until then.
        if not path.exists():
            monkeypatch.setattr(sys, "stderr", path.open("w"))
        return path.read_text()

    return text


def test_a_log_file_says_from_the_first_second_what_is_done_and_at_the_end_that_it_was(log):
    assert log() == ""
    with progress.progress("asking", 3, "prompt") as bar:
        assert "asking" in log() and "0/3" in log()
        bar.update(3)
    assert "3/3" in log()
    assert "\r" not in log()


def test_a_log_file_gets_a_line_now_and_then_and_not_one_for_each_count(log, monkeypatch):
    assert log() == ""
    monkeypatch.setattr(progress, "REDRAW_LOG", 0.2)
    with progress.progress("asking", 1000, "prompt") as bar:
        for _ in range(1000):
            bar.update()
            time.sleep(0.001)
    assert 3 <= len(log().strip().splitlines()) <= 100


def test_a_bar_moves_inside_a_batch_in_which_nothing_is_counted(log, monkeypatch):
    """A first batch that took nine minutes read as a hang."""
    assert log() == ""
    monkeypatch.setattr(progress, "REDRAW_LOG", 0.1)
    with progress.progress("generating", 8, "prompt") as bar:
        bar.set_postfix_str("12 tokens/s", refresh=False)
        time.sleep(0.5)
        lines = log().strip().splitlines()
    assert len(lines) >= 3
    assert "12 tokens/s" in lines[-1] and "0/8" in lines[-1]


@pytest.mark.parametrize("columns, rows", [(0, 0), (40, 0), (40, 24), (0, 1)])
def test_a_terminal_of_unknown_or_small_size_showed_no_bar(monkeypatch, columns, rows):
    """A pseudo-terminal has neither columns nor rows until it is told otherwise."""
    shown = shown_on_a_terminal(monkeypatch, columns, rows)
    assert "training" in shown and "2" in shown
    assert len(shown.split("\r")[1]) < (columns or 101)


def shown_on_a_terminal(monkeypatch, columns=0, rows=0):
    """What a pseudo-terminal gets of a bar."""
    master, slave = pty.openpty()
    termios.tcsetwinsize(slave, (rows, columns))
    with os.fdopen(slave, "w") as terminal:
        monkeypatch.setattr(sys, "stderr", terminal)
        with progress.progress("training", 2, "step") as bar:
            bar.update()
            shown = os.read(master, 4096).decode() if select.select([master], [], [], 10)[0] else ""
        monkeypatch.undo()
    os.close(master)
    return shown


def test_a_bar_was_not_shown_while_many_others_were_open(monkeypatch):
    others = [progress.Bar("open", 1, "thing") for _ in range(25)]
    try:
        assert "training" in shown_on_a_terminal(monkeypatch)
    finally:
        for other in others:
            other.close()


def test_quiet_work_shows_nothing(log):
    assert log() == ""
    with progress.progress("asking", 3, "prompt", quiet=True) as bar:
        bar.update()
    assert log() == ""


def test_items_are_counted_one_by_one(log):
    assert log() == ""
    assert list(progress.counted([1, 2, 3], "reading", "row")) == [1, 2, 3]
    assert "3/3" in log()

"""The progress bar of a replay: what it says, and that it fits a terminal of 80 columns."""

import io
import re
import time

from dgl_broker.observe.replay_progress import ReplayProgress, counts_text, time_left
from dgl_broker.observe.summary import Accounts, Tally


class Terminal(io.StringIO):
    def isatty(self):
        return True


def accounts(consumed, seconds=10.0):
    made = Accounts()
    made.settle(Tally(consumed=consumed, scored=consumed - 3, refused=2, dead_lettered=1, candidates=1))
    made.began = time.time() - seconds
    return made


def test_time_left_is_said_as_people_do():
    assert [time_left(s) for s in (0.4, 8, 200, 3900)] == ["0 s", "8 s", "3 min 20 s", "1 h 05 min"]


def test_counts_are_all_there():
    assert counts_text(accounts(1203)) == "1,200 scored  2 refused  1 dead-lettered  1 candidates"


def test_rate_and_time_left_count_from_where_it_was_gone_on_with(monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    stream = Terminal()
    with ReplayProgress(stream=stream) as progress:
        progress.reading(500)
        progress.begin(10_000, 2_000)
        progress._next = 0.0
        progress(accounts(4_000))
    said = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", stream.getvalue())
    # 2,000 of this run in 10 s, so 6,000 more take 30 s.
    assert "4,000 of 10,000  200/s  30 s left" in said and "3,997 scored" in said
    assert max(map(len, said.replace("\r", "\n").splitlines())) <= 80


def test_nothing_is_written_where_nobody_looks():
    stream = io.StringIO()
    for quiet, where in ((True, Terminal()), (False, stream)):
        with ReplayProgress(quiet, where) as progress:
            progress.reading(5)
            progress.begin(10, 0)
            progress(accounts(10))
        assert where.getvalue() == ""

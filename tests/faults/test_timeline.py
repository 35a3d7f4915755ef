"""What counts as recovered: partitions that had alerts waiting, or all of them."""

import pytest

from faults.timeline import Timeline


@pytest.fixture
def timeline():
    """Three partitions: the first comes on after 4 s, the second after 9 s, the third, read to its end at 10, never."""
    made = Timeline.__new__(Timeline)
    made._places = [None] * 3
    made.samples = [(0.0, (5, 5, 10)), (1.0, (6, 5, 10)), (5.0, (8, 5, 10)), (10.0, (9, 7, 10))]
    return made


def test_recovery_is_that_of_the_last_partition(timeline):
    assert timeline.recovery_s(1.0) == 9.0


def test_partitions_without_anything_to_read_are_not_waited_for(timeline):
    assert timeline.recovery_s(1.0, [9, 5, 10]) == 4.0
    assert timeline.recovery_s(1.0, [9, 7, 10]) == 9.0
    assert timeline.recovery_s(1.0, [6, 5, 10]) is None  # nothing was waiting
    assert timeline.recovery_s(1.0, [9, 9, 12]) is None  # the third was never read on


def test_what_never_came_on_has_no_recovery(timeline):
    assert timeline.recovery_s(10.0, [12, 12, 12]) is None

"""The ends of partitions as they stood at the start: where a run with `--until-eof` ends."""

import time

SECONDS_BETWEEN_LOOKS = 1.0


class Ends:
    """Ends of partitions.

    Parameters
    ----------
    marks : dict
        (topic, partition) -> (first offset there is, offset after the last).
    """

    def __init__(self, marks):
        self._ends = {place: high for place, (low, high) in marks.items() if high > low}
        self._next_look = 0.0

    def as_list(self):
        """[(topic, partition, end)] of those that held anything."""
        return [(*place, end) for place, end in self._ends.items()]

    @classmethod
    def from_list(cls, rows):
        """What `as_list` gave."""
        return cls({(topic, partition): (0, end) for topic, partition, end in rows})

    def of(self, place, offset):
        """The end of a partition where `offset` is at or beyond it, else None."""
        end = self._ends.get(place)
        return end if end is not None and offset >= end else None

    def are_reached(self, positions, places):
        """Whether the positions of these partitions have come to their ends."""
        return all(positions.get(place, 0) >= self._ends.get(place, 0) for place in places)

    def are_committed(self, ask):
        """Whether the group has committed all there was; asked for at most once a second.

        Parameters
        ----------
        ask : callable
            (places) -> {place: committed offset}, or None where nobody answers.
        """
        if not self._ends:
            return True
        if time.monotonic() < self._next_look:
            return False
        self._next_look = time.monotonic() + SECONDS_BETWEEN_LOOKS
        committed = ask(list(self._ends))
        return committed is not None and all(committed[place] >= end for place, end in self._ends.items())

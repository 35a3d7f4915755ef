"""Messages of an archive in any order, out of sources that can only be read forwards.

What is passed on the way is held until its turn, up to a budget of memory; beyond it, what is needed last is let go, and its
source read again from the start when its turn comes. Sources that are in order already need no memory, and each is read once.
"""

import heapq
from collections import OrderedDict

import numpy as np

from dgl_broker.errors import InputUnavailable

BUDGET_BYTES = 1 << 30
_DECODED_BYTES = 150_000  # of a packet that comes decoded: three stamps and a history
_SMALL_BYTES = 8 * 1024 * 1024  # a source up to here is read to its end at once
_MAX_OPEN = 100  # larger ones that are open at a time, each with a file of its own


def read_in_order(catalogue, order, survey, start=0, budget_bytes=BUDGET_BYTES, limits=None):
    """Yields the messages of `catalogue.rows[order]`, from position `start` on.

    Parameters
    ----------
    catalogue : Catalogue
    order : array of int, shape (n,)
        Row numbers, each at most once.
    survey : str
    start : int
    budget_bytes : int
        Of messages held.

    Raises
    ------
    InputUnavailable
        If a source has fewer messages than it had.
    """
    shelf = _Shelf(budget_bytes)
    readers, opened = _readers(catalogue, order, survey, limits), OrderedDict()
    for rank in range(start, len(order)):
        row = catalogue.rows[order[rank]]
        number = int(row["source"])
        reader = readers[number]
        message = shelf.take(rank)
        if message is None:
            message = reader.seek(int(row["ordinal"]), rank, shelf)
            opened[number] = reader
            opened.move_to_end(number)
            if len(opened) > _MAX_OPEN:
                opened.popitem(last=False)[1].close()
        if reader.last_rank == rank:
            reader.close()
            opened.pop(number, None)
        yield message


def _readers(catalogue, order, survey, limits):
    """Source's number to its `_Reader`, of those that are needed."""
    source, ordinal = catalogue.rows["source"][order], catalogue.rows["ordinal"][order]
    by_place = np.lexsort((ordinal, source))
    edges = np.flatnonzero(np.diff(source[by_place])) + 1
    readers = {}
    for ranks in np.split(by_place, edges) if len(by_place) else ():
        number = int(source[ranks[0]])
        readers[number] = _Reader(catalogue.sources[number], survey, limits, ordinal[ranks], ranks)
    return readers


class _Reader:
    """One source, read forwards.

    Parameters
    ----------
    ordinals : array of int, shape (k,)
        Of the messages that are needed, ascending.
    ranks : array of int, shape (k,)
        When each is.
    """

    def __init__(self, source, survey, limits, ordinals, ranks):
        self.source, self.survey, self.limits = source, survey, limits
        self.ordinals, self.ranks = ordinals, ranks
        self.last_rank = int(ranks.max())
        self.is_small = source.state().get("bytes", _SMALL_BYTES + 1) <= _SMALL_BYTES
        self._messages, self._next = None, 0

    def seek(self, ordinal, rank, shelf):
        """The message of this ordinal; those passed that are needed after `rank` go to the shelf."""
        if self._messages is None or self._next > ordinal:
            self.close()
            self._messages, self._next = self.source.messages(self.survey, self.limits), 0
        place, found = int(np.searchsorted(self.ordinals, self._next)), None
        for message in self._messages:
            here, self._next = self._next, self._next + 1
            if here == ordinal:
                found = message
                if not self.is_small:
                    return found
                continue
            while place < len(self.ordinals) and self.ordinals[place] < here:
                place += 1
            if place < len(self.ordinals) and self.ordinals[place] == here and self.ranks[place] > rank:
                shelf.put(int(self.ranks[place]), message)
        if found is None:
            raise InputUnavailable(f"{self.source.name}: has {self._next} messages, had more: it changed while it was read")
        self.close()
        return found

    def close(self):
        """Let go of the file."""
        if self._messages is not None:
            self._messages.close()
            self._messages = None


class _Shelf:
    """Messages held until their turn; when full, the last to be needed goes."""

    def __init__(self, budget_bytes):
        self.budget_bytes, self.n_bytes = budget_bytes, 0
        self._held, self._latest = {}, []

    def put(self, rank, message):
        if rank in self._held:
            return
        self._held[rank] = message
        heapq.heappush(self._latest, -rank)
        self.n_bytes += _size(message)
        while self.n_bytes > self.budget_bytes:
            self.take(-heapq.heappop(self._latest))

    def take(self, rank):
        message = self._held.pop(rank, None)
        if message is not None:
            self.n_bytes -= _size(message)
        return message


def _size(message):
    return len(message.value) + (0 if message.packet is None else _DECODED_BYTES)

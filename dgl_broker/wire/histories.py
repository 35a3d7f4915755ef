"""Histories as columns, as decoders fill them, which are at the same time rows: a sequence of dicts."""

from collections.abc import Sequence
from itertools import accumulate, groupby

import numpy as np

from dgl_broker import native


class Layout:
    """Names and kinds of a history's columns; called by the decoder with the columns of one packet.

    Parameters
    ----------
    columns : tuple of (str, str)
        Name and kind: `number` (float64), `whole` (int64), `boolean` or `text`.
    """

    __slots__ = ("names", "kinds", "texts", "_selections")

    def __init__(self, columns):
        self.names = [name for name, _ in columns]
        self.kinds = [kind for _, kind in columns]
        self.texts = {at: n for n, at in enumerate(at for at, kind in enumerate(self.kinds) if kind == "text")}
        self._selections = {}

    def __call__(self, n, words, nulls, texts, places):
        return History(self, n, words, nulls, texts, places)

    def selection(self, names):
        """Of each of these columns where it stands, or -1, and whether it is of whole numbers; None where one is of texts."""
        if names not in self._selections:
            at = [self.names.index(name) if name in self.names else -1 for name in names]
            kinds = ["missing" if place < 0 else self.kinds[place] for place in at]
            found = [(place, kind in ("whole", "boolean")) for place, kind in zip(at, kinds)]
            self._selections[names] = None if "text" in kinds else found
        return self._selections[names]


class History:
    """Rows of one history; equal to the list of dicts (None for a row that is null) that Python's decoder gives.

    Parameters
    ----------
    layout : Layout
    n : int
        Rows that are not null.
    words : bytes
        8 bytes a value, column by column: float64, or int64 (of a text its number in the column's `texts`).
    nulls : bytes
        1 where a value is null; a null number is NaN in `words` as well.
    texts : tuple of tuple of str
        The different texts of each text column.
    places : bytes or None
        Where rows themselves may be null: 1 for each that is not.
    """

    __slots__ = ("_layout", "_n", "_words", "_nulls", "_texts", "_places", "_rows")

    def __init__(self, layout, n, words, nulls, texts, places):
        self._layout, self._n, self._words, self._nulls = layout, n, words, nulls
        self._texts, self._places, self._rows = texts, places, None

    def present(self):
        """The rows that are not null."""
        return self if self._places is None else History(self._layout, self._n, self._words, self._nulls, self._texts, None)

    def __len__(self):
        return self._n if self._places is None else len(self._places)

    def __getitem__(self, place):
        return self.rows()[place]

    def __iter__(self):
        return iter(self.rows())

    def __eq__(self, other):
        return self.rows() == (other.rows() if isinstance(other, History) else other)

    __hash__ = None

    def __repr__(self):
        return f"History({self.rows()!r})"

    def rows(self):
        """The rows as dicts, made when first asked for."""
        if self._rows is None:
            names = self._layout.names
            found = [dict(zip(names, row)) for row in zip(*map(self.cells, names))] if names else [{} for _ in range(self._n)]
            if self._places is not None:
                remaining = iter(found)
                found = [next(remaining) if there else None for there in self._places]
            self._rows = found
        return self._rows

    def cells(self, name):
        """A column as a list of Python's values, None for null; None throughout where there is no such column."""
        if name not in self._layout.names:
            return [None] * self._n
        at = self._layout.names.index(name)
        kind = self._layout.kinds[at]
        values = self._words_as(np.float64 if kind == "number" else np.int64)[at].tolist()
        nulls = self._nulls[at * self._n : (at + 1) * self._n]
        if kind == "boolean":
            values = [value != 0 for value in values]
        elif kind == "text":
            texts = self._texts[self._layout.texts[at]] or (None,)
            values = [texts[value] for value in values]
        return [None if null else value for value, null in zip(values, nulls)] if any(nulls) else values

    def numbers(self, names, least=0.0, greatest=np.inf):
        """Columns as float64, shape (names, rows), NaN for null and where there is no such column; None for texts.

        Parameters
        ----------
        names : tuple of str
        least, greatest : float
            Numbers nearer to zero than `least` are zero, those beyond `greatest` NaN.
        """
        selection = self._layout.selection(names)
        if selection is None:
            return None
        if native.COMPILED is not None:
            found = native.COMPILED.numbers(self._words, self._nulls, self._n, selection, least, greatest)
            return np.frombuffer(found, np.float64).reshape(len(names), self._n)
        found = np.full((len(names), self._n), np.nan)
        for row, (at, is_whole) in zip(found, selection):
            if is_whole:
                row[:] = np.where(self._is_null()[at], np.nan, self._words_as(np.int64)[at])
            elif at >= 0:
                row[:] = self._words_as(np.float64)[at]
        return within(found, least, greatest)

    def integers(self, names, before=0):
        """Columns of whole numbers as int64, shape (names, rows), null in row i as -1 - before - i; None for other columns."""
        places = [self._layout.names.index(name) if name in self._layout.names else -1 for name in names]
        if any(at < 0 or self._layout.kinds[at] != "whole" for at in places):
            return None
        nulls = self._is_null()[places]
        found = self._words_as(np.int64).take(places, axis=0)
        return np.where(nulls, -1 - before - np.arange(self._n), found) if nulls.any() else found

    def meanings(self, name, meaning, dtype):
        """What a column of texts stands for: `meaning` of each different text, or of None, shape (rows,); None for no texts."""
        at = self._layout.names.index(name) if name in self._layout.names else -1
        if at < 0 or self._layout.kinds[at] != "text":
            return None
        known = np.array([*map(meaning, self._texts[self._layout.texts[at]]), meaning(None)], dtype)
        return known[np.where(self._is_null()[at], len(known) - 1, self._words_as(np.int64)[at])]

    def _words_as(self, dtype):
        return np.frombuffer(self._words, dtype).reshape(len(self._layout.names), self._n)

    def _is_null(self):
        return np.frombuffer(self._nulls, np.bool_).reshape(len(self._layout.names), self._n)


def within(found, least, greatest):
    """Numbers of an array, which is changed: NaN beyond `greatest`, zero nearer to zero than `least`."""
    size = np.abs(found)
    found[size > greatest] = np.nan
    found[size < least] = 0.0
    return found


def end_to_end(histories):
    """The same rows in fewer histories: those that follow one another in one layout become one.

    A step over all rows of a batch costs what it costs over the dozen of one alert.

    Parameters
    ----------
    histories : list of History, or of lists of dict
    """
    found = []
    for layout, run in groupby((rows for rows in histories if len(rows)), key=_layout_of):
        run = list(run)
        found += run if layout is None or len(run) == 1 else [_joined(layout, run)]
    return found


def _layout_of(rows):
    return rows._layout if isinstance(rows, History) and rows._places is None and rows._layout.names else None


def _joined(layout, run):
    words = np.concatenate([rows._words_as(np.int64) for rows in run], axis=1)
    nulls = np.concatenate([rows._is_null() for rows in run], axis=1)
    owner = np.repeat(np.arange(len(run)), [rows._n for rows in run])
    texts = []
    for at, n in layout.texts.items():
        parts = [rows._texts[n] for rows in run]
        words[at] += np.array([0, *accumulate(map(len, parts[:-1]))])[owner]
        # One more, which the number of a null may point to.
        texts.append((*(text for part in parts for text in part), None))
    return History(layout, words.shape[1], words.tobytes(), nulls.tobytes(), tuple(texts), None)


Sequence.register(History)  # so that fastavro writes it as an array; as a base it would make `isinstance` slow

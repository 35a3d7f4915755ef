"""What is known of alerts or objects: `labels.csv` with `survey, alert_id or object_id, class, source`.

`class` is one of the four of the ensemble, `lensed_sn` where the type is not known, or any other word of a kind that is no
lensed supernova (`sn_ia`, `agn`, `bogus`): then it is a negative of that kind. `source` says who says so; `simulated` and
`injected` are no part of the real stream. The simulator's own `labels.csv` is read as it is. Ids are text and stay exact.
"""

import csv
import difflib
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from dgl_broker.errors import ConfigError, InputUnavailable
from dgl_broker.scores import CLASSES

LENSED_SN = "lensed_sn"  # of a type that is not known
POSITIVE = (LENSED_SN, "lensed_sn_ia", "lensed_sn_cc")
SIMULATED = ("simulated", "injected")


class Label(NamedTuple):
    """One label: the class, the kind within it, and who says so."""

    class_: str
    kind: str
    source: str


UNLABELLED = Label("", "", "")


@dataclass(frozen=True, eq=False)
class LabelColumns:
    """Labels of a table's rows, arrays of text of shape (n,); empty where nothing is known."""

    class_: np.ndarray
    kind: np.ndarray
    source: np.ndarray

    @property
    def positive(self):
        """Lensed supernovae, shape (n,) bool."""
        return np.isin(self.class_, POSITIVE)

    @property
    def negative(self):
        """Known to be none, shape (n,) bool."""
        return (self.class_ != "") & ~self.positive

    @property
    def simulated(self):
        """Not of the real stream, shape (n,) bool."""
        return np.isin(self.source, SIMULATED)


@dataclass(frozen=True, eq=False)
class Labels:
    """All that a file says: (survey, id) to `Label`; a survey of "" holds for any. An alert's own label comes first."""

    by_alert: dict
    by_object: dict

    def __len__(self):
        return len(self.by_alert) + len(self.by_object)

    def of(self, survey, alert_id, object_id):
        """Labels of rows.

        Parameters
        ----------
        survey, object_id : sequences of str, shape (n,)
        alert_id : sequence of int, shape (n,)

        Returns
        -------
        LabelColumns
        """
        found = [self._one(str(s), int(a), o) for s, a, o in zip(survey, alert_id, object_id)]
        columns = zip(*found) if found else ((), (), ())
        return LabelColumns(*(np.array(column, dtype=str) for column in columns))

    def _one(self, survey, alert_id, object_id):
        for table, key in ((self.by_alert, alert_id), (self.by_object, object_id)):
            for where in (survey, ""):
                label = table.get((where, key))
                if label is not None:
                    return label
        return UNLABELLED


def read_labels(path):
    """The labels of a CSV file with a header.

    Raises
    ------
    InputUnavailable
        If it cannot be read.
    ConfigError
        Naming the line: no id, an id that is no number, a class that is misspelt, or one id with two classes.
    """
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file, skipinitialspace=True)
            names = reader.fieldnames or ()
            if "class" not in names or not {"alert_id", "object_id"} & set(names):
                raise ConfigError(
                    f"{path}: columns {', '.join(names) or 'none'}, expected survey, alert_id or object_id, class, source"
                )
            # The simulator's own file has no source: it knows a system and the seed that it was drawn with.
            source = "simulated" if "source" not in names and {"seed", "system"} <= set(names) else ""
            return _labels(reader, path, source)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputUnavailable(f"{path}: cannot be read: {error}") from error


def _labels(reader, path, default_source):
    labels = Labels({}, {})
    for row in reader:
        where = f"{path}:{reader.line_num}"
        cells = {name: (row.get(name) or "").strip() for name in ("survey", "alert_id", "object_id", "class", "kind", "source")}
        if not cells["class"]:
            continue  # a row that is still to be judged
        label = _label(cells, default_source, where)
        if cells["alert_id"]:
            try:
                key, table = int(cells["alert_id"]), labels.by_alert
            except ValueError as error:
                raise ConfigError(f"{where}: alert_id {cells['alert_id']!r}, expected a whole number") from error
        elif cells["object_id"]:
            key, table = cells["object_id"], labels.by_object
        else:
            raise ConfigError(f"{where}: neither alert_id nor object_id, expected one of them")
        before = table.setdefault((cells["survey"], key), label)
        if before.class_ != label.class_:
            raise ConfigError(f"{where}: {key} is {label.class_} here and {before.class_} above, expected one class")
    return labels


def _label(cells, default_source, where):
    word = cells["class"]
    source = cells["source"] or default_source
    if word in CLASSES or word == LENSED_SN:
        return Label(word, cells["kind"] or word, source)
    known = [*CLASSES, LENSED_SN]
    near = difflib.get_close_matches(word, known, 1, 0.8)
    if near:  # a typing error must not make a supernova a negative
        raise ConfigError(
            f"{where}: class {word!r}, did you mean {near[0]!r}? Known are {', '.join(known)}; other words are kinds"
        )
    return Label("no_lens", word, source)

"""Which alerts are lensed supernovae, known negatives, or nothing of the kind: label files laid over the alerts' columns."""

from dataclasses import dataclass

import numpy as np

from dgl_broker.archive.score_columns import Words
from dgl_broker.evaluation.labels import LENSED_SN, SIMULATED, read_labels

# Classes of the alerts as codes: what is not known, what is no lensed supernova, and the lensed ones.
UNKNOWN_CLASS, NEGATIVE, LENSED, LENSED_IA, LENSED_CC = range(5)
CLASS_CODES = {LENSED_SN: LENSED, "lensed_sn_ia": LENSED_IA, "lensed_sn_cc": LENSED_CC}


@dataclass(frozen=True, eq=False)
class Labelled:
    """Labels of alerts, arrays of shape (n,): class code, kind (null where nothing is known), and whether simulated."""

    class_: np.ndarray
    kind: Words
    simulated: np.ndarray


def lay_labels(files, survey, alert_id, object_, names):
    """Labels of alerts; of several files the first that knows an alert counts.

    Parameters
    ----------
    files : sequence of path
    survey : Words
    alert_id : array of int64, shape (n,)
    object_ : array of int, shape (n,)
        Into `names`.
    names : sequence of str
        Of the objects.
    """
    known, at = {}, np.full(len(alert_id), -1, np.int32)
    for file in files:
        labels = read_labels(file)
        of_alert = _by_object(labels.by_object, known, survey, object_, names)
        _by_alert(labels.by_alert, known, survey, alert_id, of_alert)
        at = np.where(at < 0, of_alert, at)
    kinds = sorted({label.kind for label in known})
    class_ = np.array([*(CLASS_CODES.get(label.class_, NEGATIVE) for label in known), UNKNOWN_CLASS], np.int8)
    kind = np.array([*(kinds.index(label.kind) for label in known), -1], np.int32)
    simulated = np.array([*(label.source in SIMULATED for label in known), False], bool)
    return Labelled(class_[at], Words(kind[at], tuple(kinds)), simulated[at])


def _by_object(labels, known, survey, object_, names):
    """For each alert the number of its object's label in `known`, -1 without one."""
    of_object = np.full(len(names) + 1, -1, np.int32)
    if labels:
        survey_of = np.full(len(names), -1, np.int32)
        survey_of[object_] = survey.code
        places = {name: [] for _, name in labels}
        for code, name in enumerate(names):
            if name in places:
                places[name].append(code)
        for (word, name), label in labels.items():
            for code in places[name]:
                # A label of the survey itself comes before one of any.
                if word == survey.words[survey_of[code]] or (word == "" and of_object[code] < 0):
                    of_object[code] = known.setdefault(label, len(known))
    return of_object[object_]


def _by_alert(labels, known, survey, alert_id, out):
    """Puts the labels of single alerts over those of their objects."""
    if not labels:
        return
    order = np.argsort(alert_id, kind="stable")
    ids = alert_id[order]
    for (word, number), label in sorted(labels.items(), key=lambda item: item[0][0]):
        first, last = np.searchsorted(ids, number, "left"), np.searchsorted(ids, number, "right")
        for row in order[first:last]:
            if word in ("", survey.words[survey.code[row]]):
                out[row] = known.setdefault(label, len(known))

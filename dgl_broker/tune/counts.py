"""What passes a threshold: candidates a night, completeness, false positives, purity, and what each pre-cut costs and saves."""

from functools import cached_property, lru_cache

import numpy as np

from dgl_broker.evaluation.intervals import clopper_pearson, poisson
from dgl_broker.evaluation.measures import MEASURABLE, effective_number, purity_at_prevalence
from dgl_broker.tune.alerts import LENSED, LENSED_CC, LENSED_IA
from dgl_broker.tune.ranked import DETECTION_NAMES

CLASS_NAMES = {None: "all", LENSED_IA: "lensed SN Ia", LENSED_CC: "lensed SN CC", LENSED: "type unknown"}


_interval = lru_cache(maxsize=4096)(clopper_pearson)  # a slider comes back to the same counts


class Selected:
    """Alerts in order of a score with the pre-cuts of one filter: all that a threshold is asked.

    It counts as `dgl_broker.selection.guard` asks of what was replayed: `reference` and `injections` are views of it.

    Parameters
    ----------
    ranked : dgl_broker.tune.ranked.Ranked
    precuts : dgl_broker.tune.precuts.Precuts
    """

    def __init__(self, ranked, precuts):
        self.ranked = ranked
        self.precuts = precuts
        self.ok = precuts.accepted[ranked.rows]
        self.only = precuts.only[ranked.rows]
        self._nightly = (None, None)  # guard and counts ask for the same threshold

    @property
    def alerts(self):
        """All alerts."""
        return self.ranked.alerts

    @property
    def real_nights(self):
        """As `Alerts.real_nights`."""
        return self.alerts.real_nights

    @property
    def n_stream(self):
        """As `Alerts.n_stream`."""
        return self.alerts.n_stream

    @cached_property
    def stopped_alone(self):
        """Real alerts that one criterion alone stops, by criterion."""
        mine = self.precuts.only[self.alerts.stream]
        return np.bincount(mine[mine >= 0], minlength=len(self.precuts.names))

    def passing(self, threshold):
        """Which of the first alerts in the order pass; those behind score too low."""
        return self.ok[: self.ranked.n_above(threshold)]

    def passing_rows(self, threshold):
        """Rows of the alerts that pass, best first."""
        passing = self.passing(threshold)
        return self.ranked.rows[: len(passing)][passing]

    def nightly(self, threshold):
        """What passes in each night of `alerts.nights`, not scaled; simulated alerts are left out.

        Returns
        -------
        alerts, objects : arrays of int
            Of each night.
        visits : array of int
            Alerts of each object in each night that it passes in.
        """
        if self._nightly[0] != threshold:
            self._nightly = (threshold, self._count_nights(threshold))
        return self._nightly[1]

    def _count_nights(self, threshold):
        passing, ranked = self.passing(threshold), self.ranked
        k = len(passing)
        real = np.flatnonzero(passing & ranked.stream[:k] & (ranked.night[:k] >= 0))
        n = len(self.alerts.nights)
        if 10 * len(real) < len(ranked.visit_night):
            seen, visits = np.unique(ranked.visit[real], return_counts=True)
        else:
            visits = np.bincount(ranked.visit[real], minlength=len(ranked.visit_night))
            seen = np.flatnonzero(visits)
            visits = visits[seen]
        objects = np.bincount(ranked.visit_night[seen], minlength=n)
        return np.bincount(ranked.night[real], minlength=n), objects, visits

    def candidates(self, threshold):
        """Candidates a night with the interval of their mean, the worst night, and each night.

        The interval is Poisson's for as many independent things as the alerts are worth: those of one object in one night
        come together.
        """
        alerts, objects, visits = self.nightly(threshold)
        real_nights, sampled = self.real_nights, self.alerts.sampled
        n = len(real_nights)
        if not n:
            return None
        total = int(alerts.sum())
        worth = effective_number(visits) if total else 0.0
        low, high = poisson(worth) if total else poisson(0)
        scale = (total / worth if total else 1.0) / n / sampled
        worst = int(real_nights[np.argmax(alerts[real_nights])])
        return {
            "mean": total / n / sampled,
            "lo": low * scale,
            "hi": high * scale,
            "objects_mean": float(objects.sum()) / n / sampled,
            "worst": float(alerts[worst]) / sampled,
            "worst_night": self.alerts.nights[worst],
            "n_nights": n,
            "total": total,
            "nights": [
                {"night": self.alerts.nights[i], "alerts": float(alerts[i]) / sampled, "objects": float(objects[i]) / sampled}
                for i in real_nights.tolist()
            ],
        }

    def completeness(self, threshold):
        """Completeness over lensed objects: all, by class and by number of detections; None without any.

        An object is found when any of its alerts passes; in a bin of detections, of the objects that have an alert there,
        when one of these passes.
        """
        ranked, passing = self.ranked, self.passing(threshold)
        objects = ranked.positives
        if not objects.n:
            return None
        found = objects.found(passing)
        classes = [c for c in CLASS_NAMES if c is None or (ranked.class_of == c).any()]
        rows = []
        for c in classes:
            of_class = np.ones(objects.n, bool) if c is None else ranked.class_of == c
            rows.append({"class": CLASS_NAMES[c], **_share(found, of_class), "by_detections": []})
        if ranked.knows_detections:
            self._by_detections(rows, classes, passing)
        return {**rows[0], "rows": rows, "bins": list(DETECTION_NAMES) if ranked.knows_detections else []}

    def _by_detections(self, rows, classes, passing):
        ranked, objects = self.ranked, self.ranked.positives
        entries = objects.passing(passing)
        for b, has in enumerate(ranked.has_detections):
            found = objects.owners(entries[ranked.detections[entries] == b])
            for row, c in zip(rows, classes):
                row["by_detections"].append(_share(found, has if c is None else has & (ranked.class_of == c)))

    def negatives(self, threshold):
        """False positives among known negatives (objects); None without any."""
        objects = self.ranked.negatives
        if not objects.n:
            return None
        found = objects.found(self.passing(threshold))
        k, n = int(found.sum()), objects.n
        low, high = _interval(k, n)
        return {
            "n": n,
            "passing": k,
            "fpr": k / n,
            "lo": low,
            "hi": high,
            "measurable": k >= MEASURABLE,
            "kinds": self._kinds(found),
        }

    def _kinds(self, found):
        """Kinds of the negatives, those of which most pass first."""
        kind, words = self._kind_of_negatives, self.alerts.kind.words
        n, passing = (np.bincount(kind[chosen], minlength=len(words)) for chosen in (slice(None), found))
        out = [{"kind": w, "n": int(n[c]), "passing": int(passing[c])} for c, w in enumerate(words) if n[c]]
        return sorted(out, key=lambda row: (-row["passing"], row["kind"]))

    @cached_property
    def _kind_of_negatives(self):
        objects = self.ranked.negatives
        kind = np.zeros(objects.n, np.int32)
        kind[objects.owner] = self.alerts.kind.code[objects.alerts]
        return kind

    def stream(self, threshold):
        """Share of the real alerts that pass."""
        passing = self.passing(threshold)
        k = int(np.count_nonzero(passing & self.ranked.stream[: len(passing)]))
        n = self.n_stream
        low, high = _interval(k, n)
        return {"n": n, "passing": k, "share": k / n if n else None, "lo": low, "hi": high}

    def purity(self, threshold, prevalence):
        """Share of lensed supernovae among what passes, if `prevalence` of the alerts were theirs; None without both sides.

        Over alerts: how many of the lensed ones pass, and how many of the real stream.
        """
        passing, ranked = self.passing(threshold), self.ranked
        stream = self.stream(threshold)
        if not self.alerts.n_lensed or not stream["n"]:
            return None
        tpr = len(ranked.positives.passing(passing)) / self.alerts.n_lensed
        low, high = (purity_at_prevalence(tpr, fpr, prevalence) for fpr in (stream["hi"], stream["lo"]))
        return {
            "prevalence": prevalence,
            "value": purity_at_prevalence(tpr, stream["share"], prevalence) if stream["passing"] else None,
            "lo": low,
            "hi": high if stream["passing"] else 1.0,
            "alert_completeness": tpr,
        }


def _share(found, of):
    n, k = int(of.sum()), int((found & of).sum())
    low, high = _interval(k, n)
    return {"n": n, "found": k, "value": k / n if n else None, "lo": low, "hi": high}

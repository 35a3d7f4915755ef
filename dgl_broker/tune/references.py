"""What the guards ask, answered from alerts in order of their score: the counts of `guard.Replayed`, without a sort."""

import numpy as np


class Reference:
    """The real alerts of the tables, night by night.

    Parameters
    ----------
    selected : dgl_broker.tune.counts.Selected
    """

    def __init__(self, selected):
        self.selected = selected

    def __len__(self):
        return len(self.selected.real_nights)

    def candidates_per_night(self, threshold):
        """(nights, candidates of each), scaled up from the sample."""
        selected = self.selected
        alerts, _, _ = selected.nightly(threshold)
        nights = np.array(selected.alerts.nights)[selected.real_nights]
        return nights, alerts[selected.real_nights] / selected.alerts.sampled


class Injections:
    """The lensed supernovae of the tables, injected or known."""

    def __init__(self, selected):
        self.selected = selected

    def __len__(self):
        return self.selected.ranked.positives.n

    def completeness(self, threshold):
        """(share of objects of which an alert passes, number of objects)."""
        objects = self.selected.ranked.positives
        found = objects.found(self.selected.passing(threshold))
        return (float(found.mean()) if objects.n else float("nan")), objects.n

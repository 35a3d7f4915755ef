"""A bundle that scores beside the one in force, and judges nothing: so that a refreshed one has scores before it takes over.

What it says stands in the record under `shadow_*`. Nothing that goes wrong with it costs an alert its outcome: it is counted,
and told where the filter runs.
"""

from collections import Counter

from dgl_broker import model
from dgl_broker.errors import ConfigError, NotScorable
from dgl_broker.example import ExampleSpec, build_examples, stack
from dgl_broker.scores import Beside
from dgl_broker.wire import DEFAULT

SCORED, REFUSED, FAILED = "scored", "refused", "failed"


class Shadow:
    """Another bundle over the same alerts.

    Parameters
    ----------
    bundle : str, Path or dgl_broker.model.Bundle
        As `Scorer` takes it.
    survey : "lsst", "ztf" or None
    spec : ExampleSpec
        Of the bundle in force: examples are shared where both ask for the same.
    in_force : str
        Hash of the bundle in force.
    device, prevalence, precision
        As `Scorer` takes them.

    Raises
    ------
    ConfigError, DeviceUnavailable, StateError
        If it cannot be loaded, is of another survey, or is the bundle in force itself.

    Attributes
    ----------
    counters : Counter
        Alerts `scored`, `refused` and `failed`.
    problem : str or None
        The last thing that went wrong.
    """

    def __init__(self, bundle, survey, spec, in_force, device="cpu", prevalence=1e-6, precision=None, stamp_bytes=None):
        self.bundle = bundle if isinstance(bundle, model.Bundle) else model.load_bundle(bundle, survey=survey)
        card = self.bundle.card
        if survey and card.get("survey") != survey:
            raise ConfigError(f"shadow bundle {card['id']} is for {card.get('survey')}, the alerts are of {survey}")
        if self.bundle.sha256 == in_force:
            raise ConfigError(f"shadow bundle {card['id']} ({in_force[:8]}) is the bundle in force itself")
        self.spec = ExampleSpec.from_card(card)
        self.shares_examples = self.spec == spec
        self.ensemble = model.Ensemble(self.bundle, device=device, prevalence=prevalence, precision=precision)
        self.stamp_bytes = stamp_bytes or DEFAULT.stamp_bytes
        self.counters = Counter()
        self.problem = None

    def look(self, alerts, companions, examples):
        """What the bundle says of each alert, as `Beside`; never raises.

        Parameters
        ----------
        alerts : list of Alert
        companions : list of dict
        examples : list of Example or None
            Those of the bundle in force; None where it refused the alert.
        """
        found = self._guarded(alerts, companions, examples)
        if found is None:  # one of them is odd, or all fails: find out
            ones = [self._guarded([a], [c], [e]) for a, c, e in zip(alerts, companions, examples, strict=True)]
            found = [(None, FAILED) if one is None else one[0] for one in ones]
        for scores, reason in found:
            self.counters[SCORED if scores is not None else FAILED if reason == FAILED else REFUSED] += 1
        return [Beside(self.bundle.id, self.bundle.sha256, *one) for one in found]

    def _guarded(self, *batch):
        try:
            return self._look(*batch)
        except Exception as error:  # noqa: BLE001 - the alerts have their outcomes; a shadow must not take them away
            self.problem = f"{type(error).__name__}: {error}"
            return None

    def _look(self, alerts, companions, examples):
        out = [(None, None)] * len(alerts)
        missing = [n for n, example in enumerate(examples) if example is None or not self.shares_examples]
        own = dict(enumerate(examples)) if self.shares_examples else {}
        built = build_examples([alerts[n] for n in missing], self.spec, [companions[n] for n in missing], self.stamp_bytes)
        own |= dict(zip(missing, built, strict=True))
        for n in missing:
            if isinstance(own[n], NotScorable):
                out[n] = (None, own.pop(n).reason)
        rows = sorted(own)
        if not rows:
            return out
        table = self.ensemble.score(stack([own[n] for n in rows]), [own[n].completeness.strata for n in rows])
        for row, n in enumerate(rows):
            try:
                out[n] = (table[row], None)
            except NotScorable as refusal:  # not finite
                out[n] = (None, refusal.reason)
        return out

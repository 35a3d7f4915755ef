"""The desk at which thresholds are chosen: filters' files, alerts with their scores, previews, activations, roll-backs.

Page, API and command line only ask it. It may be used by several threads.
"""

import threading
import time
from collections import OrderedDict
from dataclasses import replace

from dgl_broker.errors import ConfigError, GuardRefused
from dgl_broker.selection.arrival import wait_for_arrival
from dgl_broker.selection.audit import activate, roll_back
from dgl_broker.selection.guard import activation_refusals, bundle_refusal
from dgl_broker.tune.changes import changes
from dgl_broker.tune.checks import guard_checks
from dgl_broker.tune.costs import precut_costs, refusals
from dgl_broker.tune.counts import Selected
from dgl_broker.tune.curves import curves
from dgl_broker.tune.night import night_objects
from dgl_broker.tune.precuts import Judge
from dgl_broker.tune.proposals import Proposal, Proposed, finished, precuts_of, threshold_asked, with_precuts
from dgl_broker.tune.ranked import Ranked
from dgl_broker.tune.references import Injections, Reference
from dgl_broker.tune.running import running_bundles

REMEMBERED = 12  # sets of pre-cuts whose order is kept; each takes 2 bytes an alert


class Desk:
    """Filters, and the alerts that they are tried on.

    Parameters
    ----------
    files : sequence of dgl_broker.tune.filter_file.FilterFile
    alerts : dgl_broker.tune.alerts.Alerts, optional
        Without them there is no preview, and no activation that a guard would have to look at.
    prevalence : float
        Declared share of lensed supernovae among alerts, for the purity.
    configured_bundle : str, optional
        Hash of the bundle that the configuration names.

    Raises
    ------
    ConfigError
        If two filters have one name.
    """

    def __init__(self, files, alerts=None, prevalence=1e-6, configured_bundle=None):
        self.files = {}
        for file in files:
            if self.files.setdefault(file.name, file) is not file:
                raise ConfigError(f"filters: name {file.name!r} in {self.files[file.name].path} and {file.path}")
        self.alerts = alerts
        self.prevalence = prevalence
        self.configured_bundle = configured_bundle
        self.judge = None if alerts is None else Judge(alerts, self.version_of)
        self._lock = threading.RLock()
        self._ranked, self._selected = {}, OrderedDict()
        self._in_force = (None, None, None)

    def file(self, name):
        """The file of a filter.

        Raises
        ------
        ConfigError
            If there is none of that name.
        """
        if name not in self.files:
            raise ConfigError(f"filter {name!r}, expected one of {', '.join(self.files)}")
        return self.files[name]

    def version_of(self, name, number):
        """A filter as it was in a version, None where neither its file nor its log has it."""
        return self.files[name].version(number) if name in self.files else None

    def bundle(self, name, filter_):
        """The scores of a bundle, by hash, beginning of it, or id; by default of the one that the filter is tuned for."""
        if self.alerts is None or not self.alerts.bundles:
            raise ConfigError("no scores to look at: give --scores")
        known = self.alerts.bundles
        if name is None:
            own = known.get(filter_.bundle_sha256) or known.get(self.configured_bundle)
            return own or next((b for b in known.values() if not b.shadow), next(iter(known.values())))
        found = [b for b in known.values() if b.sha256.startswith(name) or b.id == name]
        if len(found) != 1:
            have = ", ".join(f"{b.id} ({b.sha256[:8]})" for b in known.values())
            raise ConfigError(f"bundle {name!r}, expected one of those whose scores are here: {have}")
        return found[0]

    def selected(self, filter_, bundle):
        """Alerts in order of the filter's score by a bundle, with its pre-cuts; remembered."""
        if filter_.score not in bundle.scores:
            raise ConfigError(f"{filter_.name}: the tables hold no {filter_.score} of bundle {bundle.id}")
        key = (bundle.sha256, filter_.score, filter_.name, filter_.survey, tuple(precuts_of(filter_).items()))
        with self._lock:
            if key not in self._selected:
                order = (bundle.sha256, filter_.score)
                if order not in self._ranked:
                    self._ranked[order] = Ranked(self.alerts, bundle.scores[filter_.score], filter_.score)
                self._selected[key] = Selected(self._ranked[order], self.judge.judge(filter_))
                while len(self._selected) > REMEMBERED:
                    self._selected.popitem(last=False)
            self._selected.move_to_end(key)
            return self._selected[key]

    def propose(self, proposal):
        """What a proposal comes to, as `Proposed`.

        Raises
        ------
        ConfigError
            If it makes no sense, or the tables cannot say what it would do.
        """
        old = self.file(proposal.filter).in_force
        bundle = self.bundle(proposal.bundle, old)
        draft = with_precuts(old, proposal.require)
        if precuts_of(draft) != precuts_of(old) and not self.judge.is_ungated:
            raise ConfigError(
                f"{old.name}: pre-cuts can be changed on an ungated replay only, since what they refused has no score here; "
                f"dgl-broker replay ... --filters {old.source} --ungated"
            )
        selected = self.selected(draft, bundle)
        threshold, metric, of = threshold_asked(proposal, draft, selected)
        # What was tuned for another bundle stays so: then the guard refuses, and says how it is carried over.
        tuned_for = bundle.sha256 if draft.bundle_sha256 is None else draft.bundle_sha256
        new = replace(draft, threshold=float(threshold), bundle_sha256=tuned_for)
        return Proposed(old, new, bundle, selected, metric, of)

    def refusals(self, proposed):
        """Every reason not to put a proposed filter into force; empty if there is none."""
        file, selected, old = self.file(proposed.old.name), proposed.selected, proposed.old
        found = []
        if file.is_shipped:
            found.append(_shipped(file))
        found += activation_refusals(proposed.new, proposed.bundle.sha256, Reference(selected), Injections(selected))
        for running in running_bundles(file, self.configured_bundle):
            why = bundle_refusal(proposed.new, running)
            if why is not None and why not in found:
                found.append(why)
        found += [f"{old.name}: {why}; replay with --filters {old.source} --ungated" for why in selected.precuts.missing]
        return found

    def preview(self, proposal):
        """What a proposal would do: counts now and then, what changes, what each pre-cut costs, and what the guard says.

        Returns
        -------
        dict
            As JSON can hold it, but for `rows` of the changes, which are places in `alerts`.
        """
        began = time.perf_counter()
        proposed = self.propose(proposal)
        old, new, selected = proposed.old, proposed.new, proposed.selected
        before = self._in_force_selected(proposed)
        refused = self.refusals(proposed)
        out = {
            "filter": old.name,
            "score": new.score,
            "bundle": {"id": proposed.bundle.id, "sha256": proposed.bundle.sha256},
            "threshold": new.threshold,
            "operating_point": None if proposed.point is None else {"metric": proposed.point, "of": proposed.of},
            "changed": proposed.changed,
            "proposed": self.counts(selected, new.threshold),
            "in_force": {
                "version": old.version,
                "threshold": old.threshold,
                **self._counts_in_force(before, old.threshold),
            },
            "changes": changes(before, old.threshold, selected, new.threshold),
            "precuts": precut_costs(selected, new.threshold),
            "refused": refused,
            "missing": list(selected.precuts.missing),
        }
        out["guard"] = guard_checks(new, out["proposed"], refused)
        out["took_ms"] = round(1000.0 * (time.perf_counter() - began), 2)
        return out

    def counts(self, selected, threshold):
        """What passes a threshold, by what `dgl_broker.tune.counts` counts."""
        return {
            "candidates": selected.candidates(threshold),
            "completeness": selected.completeness(threshold),
            "negatives": selected.negatives(threshold),
            "stream": selected.stream(threshold),
            "purity": selected.purity(threshold, self.prevalence),
        }

    def _counts_in_force(self, selected, threshold):
        """As `counts`, remembered: while the slider moves, what is in force stays."""
        of, at, counts = self._in_force
        if of is not selected or at != threshold:
            counts = self.counts(selected, threshold)
            self._in_force = (selected, threshold, counts)
        return counts

    def curves(self, proposal):
        """Histograms and curves for the pre-cuts of a proposal, as `dgl_broker.tune.curves` gives them."""
        old = self.file(proposal.filter).in_force
        bundle = self.bundle(proposal.bundle, old)
        selected = self.selected(with_precuts(old, proposal.require), bundle)
        return {"score": old.score, "bundle": bundle.sha256, "never_scored": refusals(selected), **curves(selected)}

    def night(self, proposal, night):
        """Objects of one night under a proposal, as `dgl_broker.tune.night` gives them; and the scores of the bundle."""
        proposed = self.propose(proposal)
        before = self._in_force_selected(proposed)
        found, n = night_objects(before, proposed.old.threshold, proposed.selected, proposed.threshold, night)
        return found, n, proposed.bundle.scores[proposed.new.score]

    def _in_force_selected(self, proposed):
        """The filter in force on the scores of its own bundle; on the proposal's where the tables have none."""
        bundle = self.alerts.bundles.get(proposed.old.bundle_sha256, proposed.bundle)
        return self.selected(proposed.old, bundle)

    def activate(self, proposal, expected_version, who, why, wait_s=0.0):
        """Puts a proposal into force.

        Parameters
        ----------
        proposal : Proposal
        expected_version : int
            Version of the filter that it was made against.
        who, why : str
            For the audit log.
        wait_s : float
            How long to wait for the workers.

        Returns
        -------
        (Filter, Arrival)

        Raises
        ------
        StaleVersion
            If another version is in force by now.
        GuardRefused
            With every reason, one a line.
        """
        proposed = self.propose(proposal)
        file = self.file(proposal.filter)
        refused = self.refusals(proposed)
        if file.is_shipped:  # before the log beside it is opened: no file is made there, and none may be allowed to
            raise GuardRefused("; ".join(refused), refused)
        if not proposed.changed and proposed.old.is_tuned and not refused:
            refused = [f"{proposed.old.name}: version {proposed.old.version} says this already"]
        new = activate(file.path, finished(proposed), who, why, expected_version, refused)
        return new, wait_for_arrival(file.status, new.name, new.version, wait_s)

    def roll_back(self, name, to_version, expected_version, who, why, wait_s=0.0):
        """Puts an earlier version into force again, as a new version; as `activate`.

        The guards of rate and completeness are not asked: a way back must be open when what is in force does harm.
        """
        file = self.file(name)
        if file.is_shipped:
            raise GuardRefused(_shipped(file))

        def refused(old):
            reasons = (bundle_refusal(old, b) for b in running_bundles(file, self.configured_bundle))
            return [why for why in reasons if why is not None]

        new = roll_back(file.path, to_version, who, why, expected_version, refused)
        return new, wait_for_arrival(file.status, new.name, new.version, wait_s)


def _shipped(file):
    return (
        f"{file.path} ships with the package, and an upgrade would overwrite it: "
        f"dgl-broker tune copy --filter {file.name} --to DIR makes one of your own, to be named in `filters` of broker.yaml"
    )


__all__ = ["Desk", "Proposal"]

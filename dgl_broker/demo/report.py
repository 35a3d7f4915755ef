"""The page of the demonstration."""

from collections import Counter

import numpy as np

from dgl_broker.demo.record import against_truth
from dgl_broker.demo.table import truth_words
from dgl_broker.html.alert_words import describe_completeness, sexagesimal, signed, utc
from dgl_broker.html.bands import swatch
from dgl_broker.html.charts import bars, plot_histogram
from dgl_broker.html.light_curves import plot_light_curve
from dgl_broker.html.markup import element
from dgl_broker.html.page import card, columns, fold, page, section
from dgl_broker.html.scores import CLASS_NAMES, class_bars, member_dots, probability, score_facts
from dgl_broker.html.sky import read_sky, show
from dgl_broker.html.tables import Column, counters, facts, table
from dgl_broker.selection.why import criteria_rows

CARDS = 8  # objects of each survey shown with stamps and light curve
SURVEY_NAMES = {"lsst": "Rubin/LSST", "ztf": "ZTF"}
_SIDE = {"lsst": 30, "ztf": 63}


def demo_page(shows, first_line):
    """The page of one or two nights, as text.

    Parameters
    ----------
    shows : list of dgl_broker.demo.stage.Show
    first_line : str
        What the scores are worth; a banner where the weights are untrained.
    """
    trained = all(s.bundle.trained for s in shows)
    blocks = [block for one in shows for block in _night(one)]
    links = [link for one in shows for link in _links(one)]
    lead = (
        "Packets of simulated systems, written as the surveys write them, went through an embedded Kafka and the very filter "
        "that runs on the live streams. Lensed supernovae are a third of the systems here; in the sky they are one in a "
        "million alerts."
    )
    return page(
        "A simulated night through the filter",
        *blocks,
        kicker="dgl-broker demo",
        lead=lead,
        banner=None if trained else first_line,
        links=links,
    )


def _links(one):
    name = SURVEY_NAMES[one.survey]
    return [(f"{one.survey}-accounts", f"{name}: accounts"), (f"{one.survey}-best", f"{name}: candidates")]


def _night(one):
    name = SURVEY_NAMES[one.survey]
    best = one.recorder.best()
    passed = [o for o in best if any(v.passed for v in o.verdicts)]
    shown = best[:CARDS]
    title = f"{name}: candidates" if passed else f"{name}: the best, none of which passed the filter"
    asks = f"which asks for {one.filter.score} of at least {one.filter.threshold:g}"
    note = f"{len(passed)} of the {len(best)} best objects passed {one.filter.name} version {one.filter.version}, {asks}."
    note += " One row an object: its best alert."
    return [
        section(f"{name}: accounts", _accounts(one), id_=f"{one.survey}-accounts"),
        section(
            title, card(_summary_table(one, best)), *[_candidate(one, o) for o in shown], id_=f"{one.survey}-best", note=note
        ),
        section(
            f"{name}: against the truth", _truth(one), note="The simulator knows what each alert is; the filter never saw this."
        ),
    ]


def _accounts(one):
    s = one.summary
    balance = [
        ("consumed", s["consumed"]), "=", ("scored", s["scored"]), "+", ("refused", s["refused"]), "+",
        ("dead-lettered", s["dead_lettered"]),
    ]  # fmt: skip
    rates = [
        ("candidates", s["candidates"]),
        ("alerts a second", f"{s['alerts_per_s'] or 0:.0f}, in {s['seconds']:.1f} s, simulation included"),
        ("bundle", element("span", f"{s['bundle_id']} ", element("code", s["bundle_sha256"][:12]), f" on {s['device']}")),
    ]
    rates += [
        (topic, f"{n} messages, {ids} different ids, read back by an independent consumer")
        for topic, (n, ids) in one.read_back.items()
    ]
    reasons = Counter(s["refused_by_reason"]) + Counter({f"{k} (dead)": v for k, v in s["dead_lettered_by_reason"].items()})
    refused = bars(reasons.most_common(), "Refusals and dead letters by reason") if reasons else None
    parts = [card(counters(balance), element("hr"), facts(rates))]
    if refused is not None:
        parts.append(card(refused, title="Refused and dead-lettered, by reason"))
    return parts


def _summary_table(one, best):
    heads = [
        Column("object"), Column("log-odds", numeric=True), Column("p_lsn", numeric=True),
        *(Column(CLASS_NAMES[c], numeric=True) for c in CLASS_NAMES), Column("detections", numeric=True), Column("bands"),
        Column("passed"), Column("truth (simulator)"),
    ]  # fmt: skip
    rows = []
    for n, outcome in enumerate(best[:25]):
        alert, scores = outcome.alert, outcome.scores
        name = element("code", alert.object_id or str(alert.alert_id))
        passed = any(v.passed for v in outcome.verdicts)
        rows.append(
            [
                element("a", name, href=f"#{_anchor(one, outcome)}") if n < CARDS else name,
                signed(scores.log_odds, "+.2f"),
                probability(scores.p_lsn),
                *(probability(getattr(scores, f"p_{c}")) for c in CLASS_NAMES),
                str(alert.light_curve.n_detections),
                element("span", [swatch(b) for b in alert.light_curve.bands_detected], class_="bands"),
                element("b", "passed", class_="good") if passed else "",
                truth_words(one.labels.get(outcome.alert_id)),
            ]
        )
    return table(heads, rows, "Probabilities are at the mix of the calibration split", tight=True)


def _anchor(one, outcome):
    return f"{one.survey}-{outcome.alert_id}"


def _candidate(one, outcome):
    alert, scores = outcome.alert, outcome.scores
    skies = read_sky(alert, _SIDE[one.survey])
    passed = any(v.passed for v in outcome.verdicts)
    verdict = element("b", "passed", class_="good") if passed else element("span", "not passed", class_="soft")
    criteria = criteria_rows(one.filter, alert, scores)
    asked = [(name, asks, found, _met(met)) for name, asks, found, met in criteria]
    failed = [element("p", f"{name} is {found}, asked for is {asks}") for name, asks, found, met in criteria if not met]
    left = element(
        "div",
        element("div", show(skies["template"], "Template"), show(skies["difference"], "Difference", True), class_="stamps"),
        element("h4", "Classes"),
        class_bars(scores),
        element("h4", "Members"),
        member_dots(scores),
    )
    n_met = sum(met for *_, met in criteria)
    right = element(
        "div",
        plot_light_curve(alert.light_curve, alert.mjd_tai, 640, 290, alert.name),
        element("h4", "Why it passed" if passed else "Why it did not pass"),
        failed,
        fold(f"{n_met} of {len(criteria)} criteria met", table(["criterion", "asks", "found", ""], asked)),
        fold("Score in numbers", score_facts(scores)),
        fold("What the networks had", facts(describe_completeness(outcome.completeness))),
    )
    label = one.labels.get(outcome.alert_id)
    place = f"{sexagesimal(alert.ra, alert.dec)}, {utc(alert.mjd_tai)}, alert {alert.alert_id}"
    truth = element("p", element("b", "Truth, from the simulator: "), _truth_line(label))
    head = element("span", verdict, f", log-odds {signed(scores.log_odds, '+.2f')}")
    body = element("div", left, right, class_="candidate")
    where = element("p", place, class_="soft")
    return card(where, body, truth, title=alert.object_id or alert.name, right=head, id_=_anchor(one, outcome))


def _met(met):
    return element("span", "met", class_="good") if met else element("b", "not met", class_="bad")


def _truth_line(label):
    if label is None:
        return "unknown"
    words = [truth_words(label)]
    for name, text in (("z_lens", "lens at z = {:.2f}"), ("z_source", "source at z = {:.2f}")):
        if label.get(name) is not None:
            words.append(text.format(label[name]))
    if label.get("separation_arcsec"):
        words.append(f"images {label['separation_arcsec']:.2f}″ apart")
    words.append(f"detection {label['n_detections']} of this object, {label['days_since_first']:.1f} d after its first")
    return "; ".join(words)


def _truth(one):
    rows = []
    for name, counts in against_truth(one.recorder, one.labels).items():
        rows.append((CLASS_NAMES[name], *(str(counts[k]) for k in ("sent", "scored", "refused", "passed"))))
    heads = [Column("class"), *(Column(t, numeric=True) for t in ("alerts", "scored", "refused", "passed"))]
    parts = [table(heads, rows)]
    if one.recorder.log_odds:
        parts.append(_histogram(one))
    return card(columns(*parts))


def _histogram(one):
    """Log-odds of scored alerts by the simulator's class."""
    groups = {"not a lensed supernova": [], "lensed supernova": []}
    for alert_id, value in one.recorder.log_odds:
        label = one.labels.get(alert_id)
        if label is not None:
            groups["lensed supernova" if label["class"].startswith("lensed_sn") else "not a lensed supernova"].append(value)
    values = np.concatenate([np.asarray(v, float) for v in groups.values()])
    low, high = float(values.min()), float(values.max())
    edges = np.linspace(low, high if high > low else low + 1.0, 33)
    counts = {name: np.histogram(v, edges)[0] for name, v in groups.items()}
    inside = edges[0] <= one.filter.threshold <= edges[-1]
    marks = [(one.filter.threshold, "threshold")] if inside and one.filter.score == "log_odds" else ()
    caption = "Log-odds of all scored alerts, by the simulator's truth."
    if not inside:
        caption += f" The threshold, {one.filter.threshold:g}, lies beyond the scale."
    return plot_histogram(edges, counts, "log-odds", "Log-odds by truth", caption, log_y=True, marks=marks)

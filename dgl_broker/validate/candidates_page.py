"""The best candidates of a validation, a card each: stamps, light curve, members, track, and why it passed or did not."""

from dgl_broker.archive.one_row import verdicts_of
from dgl_broker.html.alert_words import describe_alert, signed
from dgl_broker.html.light_curves import plot_light_curve
from dgl_broker.html.markup import element
from dgl_broker.html.page import card, fold, page
from dgl_broker.html.scores import class_bars, member_dots, score_facts
from dgl_broker.html.sky import read_sky, show
from dgl_broker.html.tables import facts, table
from dgl_broker.selection.why import criteria_rows
from dgl_broker.validate.best import scores_of
from dgl_broker.validate.charts import small_track

_SIDE = {"lsst": 30, "ztf": 63}


def candidates_page(report, candidates, filters, tracks):
    """The page of the best.

    Parameters
    ----------
    report : dict
    candidates : list of Candidate
    filters : list of Filter
        Those that judged, as far as they are at hand.
    tracks : dict
        Object's name to its track.
    """
    n = sum(c.passed for c in candidates)
    missing = report["about"]["missing_filters"]
    note = f"{n} of the {len(candidates)} best real objects passed; each stands by its best alert."
    if missing:
        note += f" Not at hand, so without their criteria: {', '.join(missing)}."
    return page(
        "The best candidates",
        *[_card(c, filters, tracks.get(c.object)) for c in candidates],
        kicker=element("a", f"Validation of {report['about']['name']}", href="index.html"),
        lead=note,
    )


def _card(c, filters, track):
    scores = scores_of(c.record)
    state = element("b", "passed", class_="good") if c.passed else element("span", "not passed", class_="soft")
    right = element("span", f"log-odds {signed(c.score, '+.2f')}, ", state)
    head = f"{c.rank}. {c.object}"
    known = element("p", element("strong", "Known: "), c.known.removeprefix("known ")) if c.known else None
    parts = []
    if scores is not None:
        parts += [element("h4", "Classes"), class_bars(scores), element("h4", "Members"), member_dots(scores)]
    if track is not None and sum(s is not None for s in track["score"]) > 1:
        parts += [element("h4", "Score over time"), small_track(track)]
    if isinstance(c.alert, str):
        left = element("div", element("p", c.alert, class_="soft"), parts)
        right_side = element("div", known, _why(c, filters, None, scores), _numbers(scores))
    else:
        skies = read_sky(c.alert, _SIDE.get(c.survey))
        pictures = [show(skies[kind], kind.capitalize(), kind == "difference") for kind in ("template", "difference")]
        left = element("div", element("div", pictures, class_="stamps"), parts)
        right_side = element(
            "div",
            known,
            plot_light_curve(c.alert.light_curve, c.alert.mjd_tai, 640, 290, c.alert.name),
            _why(c, filters, c.alert, scores),
            _numbers(scores),
            fold("The alert", facts(describe_alert(c.alert))),
        )
    return card(element("div", left, right_side, class_="candidate"), title=head, right=right, id_=f"a{c.alert_id}")


def _numbers(scores):
    return None if scores is None else fold("Score in numbers", score_facts(scores))


def _why(c, filters, alert, scores):
    """Every criterion with what was asked and found; of filters or packets that are not at hand what the record says."""
    parts = [element("h4", "Why it passed" if c.passed else "Why it did not pass")]
    for verdict in verdicts_of(c.record):
        chosen = next((f for f in filters if (f.name, f.version) == (verdict["filter"], int(verdict["version"]))), None)
        title = f"{verdict['filter']} version {verdict['version']}"
        if chosen is None or alert is None or scores is None:
            failed = ", ".join(f"{f['criterion']} is {f['value']}" for f in verdict["failed"]) or "every criterion is met"
            parts.append(element("p", f"{title}: {failed}."))
            continue
        rows = criteria_rows(chosen, alert, scores)
        failed = [element("p", f"{name} is {found}, asked for is {asks}") for name, asks, found, met in rows if not met]
        shown = [(name, asks, found, "met" if met else element("b", "not\N{NO-BREAK SPACE}met", class_="bad"))
                 for name, asks, found, met in rows]  # fmt: skip
        n_met = sum(met for *_, met in rows)
        parts += [
            *failed,
            fold(f"{title}: {n_met} of {len(rows)} criteria met", table(["criterion", "asks", "found", ""], shown)),
        ]
    if len(parts) == 1:
        parts.append(element("p", "No filter judged it.", class_="soft"))
    return parts

"""One alert as a page of its own: stamps, light curve, scores, every criterion of the filter with its value."""

from dgl_broker.html.alert_words import sexagesimal, signed, utc
from dgl_broker.html.light_curves import plot_light_curve
from dgl_broker.html.markup import element
from dgl_broker.html.page import card, columns, page, section
from dgl_broker.html.sky import read_sky, show_all
from dgl_broker.html.tables import Column, facts, table
from dgl_broker.selection.words import plain, requirement
from dgl_broker.tune.cards import truth


def alert_page(alerts, row, alert, filter_, scores):
    """The page, as text.

    Parameters
    ----------
    alerts : dgl_broker.tune.alerts.Alerts
    row : int
    alert : Alert or str
        Decoded, or why there is none.
    filter_ : Filter
    scores : list of (bundle's name, dict of score to value)
    """
    title = alerts.object_name[alerts.object[row]]
    known = truth(alerts, row)
    blocks = []
    if isinstance(alert, str):
        blocks.append(section("No picture", card(element("p", alert))))
    else:
        place = f"{sexagesimal(alert.ra, alert.dec)}, {utc(alert.mjd_tai)}, alert {alert.alert_id}"
        curve = plot_light_curve(alert.light_curve, alert.mjd_tai, 640, 300, alert.name)
        blocks.append(
            section(
                "Stamps and light curve", card(element("p", place, class_="soft"), columns(show_all(read_sky(alert)), curve))
            )
        )
        blocks.append(section(f"Pre-cuts of {filter_.name}", card(_criteria(filter_, alert))))
    names = list(dict.fromkeys(name for _, values in scores for name in values))
    rows = [(bundle, *(_number(values.get(n)) for n in names)) for bundle, values in scores]
    blocks.append(section("Scores", card(table(["bundle", *(Column(n, numeric=True) for n in names)], rows))))
    lead = f"Known to be: {known}" if known else None
    about = facts([("survey", alerts.survey.one(row)), ("alert", str(alerts.alert_id[row]))])
    return page(title, about, *blocks, kicker="dgl-broker tune", lead=lead)


def _number(value):
    return None if value is None or value != value else signed(value, "+.4f") if abs(value) >= 1 else f"{value:.4g}"


def _criteria(filter_, alert):
    rows, cache = [], {}
    precut = dict(filter_.precut(alert.facts).met)
    for criterion in filter_.criteria:
        found = criterion.value(alert.facts, cache)
        words = ", ".join(f"{k} {plain(v)}" for k, v in found.items()) if isinstance(found, dict) else plain(found)
        met = precut[criterion.name]
        passes = criterion.unknown == "pass" if met is None else met
        word = (
            element("span", "met", class_="good")
            if met
            else element("span", "unknown, passes")
            if passes
            else element("b", "not met", class_="bad")
        )
        rows.append((criterion.name, requirement(criterion), words, word))
    return table(["criterion", "asks", "found", ""], rows)

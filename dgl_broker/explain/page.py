"""The page of one score: whether it was made again, what it was made of, what was said of it, and what moved it."""

import numpy as np

from dgl_broker.archive.one_row import verdicts_of
from dgl_broker.errors import NotScorable
from dgl_broker.explain.charts import epoch_stems, pixel_map, signed_bars
from dgl_broker.html.alert_words import describe_alert, describe_completeness, further_facts, signed
from dgl_broker.html.light_curves import plot_light_curve
from dgl_broker.html.markup import element
from dgl_broker.html.network_view import show_context, show_planes, show_steps
from dgl_broker.html.page import card, columns, fold, page, section
from dgl_broker.html.scores import class_bars, member_dots, score_facts
from dgl_broker.html.sky import Sky, read_sky, show, show_all, turn_north_up
from dgl_broker.html.tables import Column, facts, table
from dgl_broker.selection.why import criteria_rows


def explanation_page(one):
    """The page of an `Explanation`, as text."""
    row = one.found.row
    title = f"{row['survey']} {row['alert_id']}"
    kind = "reproduced" if one.comparison.reproduced else "NOT reproduced"
    blocks = [section("The score", *_comparison(one), id_="score")]
    links = [("score", "The score")]
    if one.outcome.alert is not None:
        blocks += [*_alert(one), *_network(one), *_verdicts(one), *_occlusion(one)]
        links += [("alert", "The alert"), ("network", "What the network saw"), ("filters", "Criteria")]
        links += [("moved", "What moved it")] if one.occlusion is not None else []
    lead = element(
        "span", "Rebuilt from ", element("code", one.found.message.where()), ", recorded in ", element("code", str(one.scores)),
        f": {kind}.",
    )  # fmt: skip
    return page(title, *blocks, kicker="dgl-broker explain", lead=lead, banner=_banner(one), links=links)


def _banner(one):
    if not one.comparison.reproduced:
        n = len(one.comparison.differences)
        words = f" {n} thing{'s' if n != 1 else ''} differ{'s' if n == 1 else ''} from the record; the table below lists them."
        return element("span", element("strong", "This score could not be reproduced."), words)
    if not one.bundle.trained:
        return "The weights of this bundle are untrained: its scores mean nothing."
    return None


def _comparison(one):
    c, row = one.comparison, one.found.row
    if row["log_odds"] is not None and c.log_odds_now is not None:
        change = abs(c.log_odds_then - c.log_odds_now)
        text = f"{signed(c.log_odds_then, '+.4f')} recorded, {signed(c.log_odds_now, '+.4f')} now; they differ by {change:.1g}"
    else:
        text = f"recorded: {row['status']}{_why(row['reason'])}; now: {one.outcome.status}{_why(one.outcome.reason)}"
    ran = "on the same kind of device, in the same precision"
    if not c.exact:
        ran = f"recorded on {row['device']}, {row['precision']}; here the limits are those between devices"
    words = (
        element("strong", "Reproduced", class_="good") if c.reproduced else element("strong", "Not reproduced", class_="bad")
    )
    summary = facts(
        [
            ("outcome", words),
            ("log-odds", text),
            ("made", ran),
            ("bundle", element("span", f"{one.bundle.card['id']} ", element("code", one.bundle.sha256[:12]))),
            ("judged by", row.get("judged_by")),
            ("message id", element("code", row["message_id"])),
        ]
    )
    blocks = [card(summary)]
    if c.differences:
        rows = [(d.what, _shown(d.then), _shown(d.now), "equal" if d.allowed is None else f"within {d.allowed:.2g}")
                for d in c.differences]  # fmt: skip
        blocks.append(card(table(["what", "recorded", "now", "expected"], rows), title="What differs"))
    return blocks


def _why(reason):
    return f" ({reason})" if reason else ""


def _shown(value):
    if isinstance(value, float):
        return signed(value, ".8g")
    return "none" if value in (None, [], "") else str(value)


def _alert(one):
    alert = one.outcome.alert
    if not hasattr(alert, "light_curve"):  # refused by its leading fields
        return [section("The alert", card(element("p", "Refused by its leading fields; the rest was not read.")), id_="alert")]
    besides = further_facts(alert)
    stamps = [card(show_all(read_sky(alert)))]
    for companion in one.found.companions.values():
        pictures = [
            show(turn_north_up(s), f"{companion.band}, {kind}", kind == "difference")
            for kind, s in (("template", companion.template), ("difference", companion.difference))
            if s is not None
        ]
        note = f"alert {companion.alert_id}, {alert.mjd_tai - companion.mjd_tai:.2f} d earlier"
        stamps.append(card(element("div", pictures, class_="stamps"), title=f"Companion in {companion.band}", right=note))
    return [
        section(
            "The alert",
            card(
                facts(describe_alert(alert)),
                fold(f"{len(besides)} further facts", table(["fact", "value", "what it is"], besides)) if besides else None,
            ),
            id_="alert",
        ),
        section(
            "Stamps", *stamps, note="North up, east left, asinh scale. Orange is brighter than the template, blue fainter."
        ),
        section("Light curve", card(plot_light_curve(alert.light_curve, alert.mjd_tai, 900, 330, alert.name))),
    ]


def _network(one):
    """What the network took in and what was masked; or why it took nothing."""
    example, spec = one.example, one.spec
    if example is None or isinstance(example, NotScorable):
        refusal = one.outcome.reason if example is None else example.reason
        detail = one.outcome.error if example is None else example.detail
        verdict = element("p", element("strong", "Nothing: "), element("code", refusal))
        return [section("What the network saw", card(verdict, element("p", detail)), id_="network")]
    c = example.completeness
    masked = [
        ("valid pixels of the difference", f"{100 * c.valid_fraction:.0f} %"),
        ("older points left out", str(c.n_dropped_epochs) if c.n_dropped_epochs else None),
        ("not there", ", ".join(c.missing) or "nothing"),
    ]
    planes = getattr(spec, "planes", None) or tuple(spec.bands)
    features = getattr(spec, "features", None) or tuple(spec.bands)
    view = [
        show_planes(example.image, planes, spec.pixel_scale_arcsec),
        element("h3", "Steps of the light curve"),
        show_steps(example.light_curve, features),
    ]
    names = getattr(spec, "context", ())
    if names:
        view.append(show_context(example.context, names))
    made_of = columns(
        [element("h3", "Made of"), facts(describe_completeness(c))], [element("h3", "Masked or missing"), facts(masked)]
    )
    note = "Number for number what the bundle takes. Hatched pixels are masked: outside the stamp, or not finite."
    return [section("What the network saw", card(*view), card(made_of), id_="network", note=note)]


def _verdicts(one):
    """What each member said, and every criterion of every filter with the value found."""
    outcome = one.outcome
    blocks = []
    if outcome.scores is not None:
        left = [element("h4", "Classes"), class_bars(outcome.scores), element("h4", "Members"), member_dots(outcome.scores)]
        blocks.append(card(columns(left, score_facts(outcome.scores)), title="What each member said"))
    for chosen in one.found.filters:
        verdict = next((v for v in outcome.verdicts if (v.filter, v.version) == (chosen.name, chosen.version)), None)
        words = "not judged: refused before" if verdict is None else "passed" if verdict.passed else "not passed"
        style = "good" if verdict is not None and verdict.passed else "soft"
        rows = [
            (name, asks, found, _met(met, outcome.cuts.get(f"{chosen.name}.{name}", True)))
            for name, asks, found, met in criteria_rows(chosen, outcome.alert, outcome.scores)
        ]
        heads = ["criterion", "asks", "found", Column("")]
        title = f"{chosen.name}, version {chosen.version}"
        blocks.append(card(table(heads, rows), title=title, right=element("b", words, class_=style)))
    for verdict in verdicts_of(one.found.row):
        if not any((f.name, f.version) == (verdict["filter"], int(verdict["version"])) for f in one.found.filters):
            said = "passed" if verdict["passed"] else "did not pass"
            words = f"{verdict['filter']} version {verdict['version']} {said} live; its file is not at hand."
            blocks.append(card(element("p", words)))
    if not one.found.filters and not verdicts_of(one.found.row):
        blocks.append(card(element("p", "No filter judged it.", class_="soft")))
    return [section("What was said of it", *blocks, id_="filters")]


def _met(met, cut):
    if not met:
        return element("b", "not\N{NO-BREAK SPACE}met", class_="bad")
    return "unknown" if cut is None else "met"


def _occlusion(one):
    found = one.occlusion
    if found is None:
        return []
    note = (
        "Each part was taken away, the example made anew and scored again. Its worth is the log-odds with it minus those "
        "without it: orange spoke for a lensed supernova, blue against. Parts act together; their worths do not add up."
    )
    blocks = [card(columns(
        [element("h3", "Whole inputs"), signed_bars(found.inputs, "Worth of whole inputs")],
        [element("h3", "Bands of the light curve"), signed_bars(found.bands, "Worth of each band")] if found.bands
        else [element("p", "The trigger is the light curve's only point.", class_="soft")],
    ))]  # fmt: skip
    if found.epochs:
        blocks.append(card(epoch_stems(found.epochs), title="Nights of the light curve"))
    if np.isfinite(found.pixels).any():
        blocks.append(card(pixel_map(found, _seen_difference(one), "Difference"), title="Pixels"))
    return [section("What moved the score", *blocks, id_="moved", note=note)]


def _seen_difference(one):
    """The difference plane as the network saw it."""
    planes = list(getattr(one.spec, "planes", None) or one.spec.bands)
    name = "difference" if "difference" in planes else planes[0]
    image = one.example.image
    valid = image[planes.index(f"{name}_mask")] > 0.5 if f"{name}_mask" in planes else np.ones(image.shape[1:], bool)
    return Sky(image[planes.index(name)], valid, np.zeros_like(valid), one.spec.pixel_scale_arcsec, "")

"""The page that `inspect` writes."""

from dgl_broker.errors import NotScorable
from dgl_broker.html.alert_words import describe_alert, describe_completeness, further_facts
from dgl_broker.html.light_curves import plot_light_curve
from dgl_broker.html.markup import element
from dgl_broker.html.network_view import show_context, show_planes, show_steps
from dgl_broker.html.page import card, columns, fold, page, section
from dgl_broker.html.scores import score_panel
from dgl_broker.html.sky import read_sky, show_all
from dgl_broker.html.tables import facts, table

_MET = {True: "met", False: "not met", None: "unknown"}


def inspection_page(found):
    """The page of an `Inspection` that has an alert, as text."""
    alert = found.alert
    words = describe_alert(alert)
    besides = further_facts(alert)
    blocks = [
        section(
            "The alert",
            card(
                facts(words),
                fold(f"{len(besides)} further facts", table(["fact", "value", "what it is"], besides)) if besides else None,
            ),
        ),
        section(
            "Cutouts",
            card(show_all(read_sky(alert))),
            note="Turned north up, east left, on an asinh scale. Orange is brighter than the template, blue fainter.",
        ),
        section("Light curve", card(plot_light_curve(alert.light_curve, alert.mjd_tai, 900, 340, alert.name))),
        *_network(found),
        *_scores(found),
    ]
    banner = None
    if found.bundle is not None and not found.bundle.trained:
        banner = "The weights of this bundle are untrained: its scores mean nothing."
    source = element("span", "From ", element("code", found.message.where()))
    return page(alert.name, *blocks, kicker="dgl-broker inspect", lead=source, banner=banner)


def _network(found):
    """What the network sees, or why it sees nothing."""
    name = found.bundle.card["id"] if found.bundle else f"the usual input of {found.alert.survey}"
    example, spec = found.example, found.spec
    if isinstance(example, NotScorable):
        verdict = element("p", element("strong", "Not scorable: "), element("code", example.reason))
        return [section("What the network sees", card(verdict, element("p", example.detail)), note=f"By {name}.")]
    planes = getattr(spec, "planes", None) or tuple(spec.bands)
    features = getattr(spec, "features", None) or tuple(spec.bands)
    view = [
        element("h3", "Planes"),
        show_planes(example.image, planes, spec.pixel_scale_arcsec),
        element("h3", "Steps of the light curve"),
        show_steps(example.light_curve, features),
    ]
    names = getattr(spec, "context", ())
    if names:
        view.append(show_context(example.context, names))
    made_of = [element("h3", "Made of"), facts(describe_completeness(example.completeness))]
    note = f"The example that {name} takes, number for number. Scorable."
    return [section("What the network sees", card(*view), card(*made_of), note=note)]


def _scores(found):
    """Scores, pre-cuts and verdicts, or why there are none."""
    outcome = found.outcome
    if outcome is None:
        return [section("Scores", card(element("p", f"None: {found.no_bundle}.")))]
    blocks = []
    if outcome.scores is not None:
        blocks.append(card(columns(score_panel(outcome.scores), _verdicts(outcome))))
    elif outcome.cuts:
        blocks.append(card(_verdicts(outcome)))
    if outcome.scores is None:
        reason = element("p", "Not scored: ", element("code", outcome.reason), " ", outcome.error)
        blocks.append(card(reason))
    return [section("Scores", *blocks)]


def _verdicts(outcome):
    parts = []
    for verdict in outcome.verdicts:
        parts.append(
            element("h4", f"{verdict.filter}, version {verdict.version}: {'passed' if verdict.passed else 'not passed'}")
        )
        if verdict.failed:
            parts.append(table(["failed", "found"], [(name, str(value)) for name, value in verdict.failed]))
    if outcome.cuts:
        parts.append(element("h4", "Pre-cuts"))
        parts.append(table(["criterion", "on this alert"], [(name, _MET[met]) for name, met in outcome.cuts.items()]))
    return parts or element("p", "No filter was given.", class_="soft")

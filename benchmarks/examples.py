"""Examples of a batch of alerts, against scipy image by image."""

import warnings

from benchmarks import peers
from benchmarks.alerts import mixes
from benchmarks.decoders import DECODERS, using
from benchmarks.report import at_least, compared
from benchmarks.timing import interleaved
from dgl_broker import model, surveys, wire
from dgl_broker.errors import NotScorable
from dgl_broker.example import ExampleSpec, build_examples
from dgl_broker.planes import place_planes
from dgl_broker.stamps import read_stamp

TITLE = "2. Examples: stamps and light curves to what the networks take"
SCIPY, WHOLE_SCIPY = "scipy, image by image", "astropy and scipy, image by image, without light curves"
GOAL = 30.0


def run(options):
    """Yields a `Measure` for each mix."""
    for mix in mixes(options):
        yield _measured(mix, options.rounds, 8 if options.quick else 128)


def _measured(mix, rounds, n):
    spec = ExampleSpec.from_card(model.load_bundle("default", survey=mix.survey).card)
    alerts = surveys.read_alerts([wire.decode(value, mix.survey, mix.schemas) for value in mix.values])
    alerts = [a for a, e in zip(alerts, build_examples(alerts, spec)) if not isinstance(e, NotScorable)]
    alerts = (alerts * n)[:n]
    stamps = {
        (number, kind): stamp
        for number, alert in enumerate(alerts)
        for kind in ("template", "difference")
        if (stamp := read_stamp(getattr(alert.cutouts, kind), kind, alert.cutouts)) is not None
    }
    grid = (spec.side, spec.pixel_scale_arcsec, spec.image_softening_njy)

    def by_scipy():
        for stamp in stamps.values():
            peers.place_by_scipy(stamp, *grid)

    def whole_by_scipy():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # astropy finds fault with ZTF's headers
            for (number, kind), stamp in stamps.items():
                peers.open_by_astropy(getattr(alerts[number].cutouts, kind))
                peers.place_by_scipy(stamp, *grid)

    ways = {SCIPY: by_scipy, WHOLE_SCIPY: whole_by_scipy}
    for decoder in DECODERS:
        ways[f"{decoder}: images, in a batch"] = _with(decoder, lambda: place_planes(stamps, *grid))
        ways[f"{decoder}: whole examples, in a batch"] = _with(decoder, lambda: build_examples(alerts, spec))
    spent = interleaved(ways, n, rounds)
    ratios, goals = {}, {}
    for decoder in DECODERS:
        name = f"{decoder}: images, times the speed of scipy"
        ratios[name] = (spent[SCIPY], spent[f"{decoder}: images, in a batch"])
        if decoder == DECODERS[0]:
            goals[name] = at_least(GOAL)
        name = f"{decoder}: whole examples, times the speed of astropy and scipy"
        ratios[name] = (spent[WHOLE_SCIPY], spent[f"{decoder}: whole examples, in a batch"])
    notes = mix.notes | {
        "planes": f"{len(stamps) / n:.1f} stamps an alert, each with its mask, on {spec.side} x {spec.side} px"
    }
    return compared(mix.title, spent, ratios, goals, notes=notes)


def _with(decoder, work):
    def do():
        with using(decoder):
            work()

    return do

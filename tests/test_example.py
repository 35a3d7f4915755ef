"""Alerts to examples: what is refused, what company and the future may not change."""

import numpy as np
import pytest
from make_alerts import alert_card, fits_bytes, gaussian, light_curve, lsst_alert, wcs_cards
from packets import DATA

from dgl_broker import surveys, wire
from dgl_broker.alert import DETECTION, FORCED, UPPER_LIMIT, Cutouts
from dgl_broker.errors import ConfigError, NotScorable
from dgl_broker.example import Example, ExampleSpec, build_examples, stack
from dgl_broker.model.untrained import untrained_card

SPEC = ExampleSpec.from_card(alert_card())


def build(alert, spec=SPEC):
    return build_examples([alert], spec)[0]


def reason(alert, spec=SPEC):
    result = build(alert, spec)
    assert isinstance(result, NotScorable)
    assert str(alert.alert_id) in str(result)
    return result.reason


def cutouts(difference, template=True, **cards):
    header = wcs_cards(35.0) | cards
    diff = None if difference is None else fits_bytes(difference, **header)
    temp = fits_bytes(gaussian(30, 14.7, 14.4, 3.0, 40000.0), **header) if template else None
    return Cutouts(diff, temp, diff)


def test_an_example_has_the_cards_shape_and_is_finite():
    example = build(lsst_alert())
    assert example.image.shape == (4, 30, 30) and example.light_curve.shape == (12, 16)
    assert example.context.shape == (len(SPEC.context),)
    for part in (example.image, example.light_curve, example.context):
        assert part.dtype == np.float32 and np.isfinite(part).all()
    assert example.completeness.n_detections == 3 and example.completeness.bands_used == "r"


def test_the_source_is_on_the_centre_and_on_the_asinh_scale():
    image = build(lsst_alert(angle_deg=120.0)).image[1]
    assert {i in (14, 15) for i in np.unravel_index(image.argmax(), image.shape)} == {True}
    peak = 5000.0 / (2 * np.pi * 1.7**2)  # nJy a pixel, by the Gaussian's formula
    assert image.max() == pytest.approx(np.arcsinh(peak / 20.0), abs=0.15)


def test_the_trigger_is_the_last_step_and_padding_comes_first():
    rows = build(lsst_alert()).light_curve
    assert rows[:, 0].tolist() == [0.0] * 9 + [1.0] * 3 and not rows[:9].any()
    age = SPEC.features.index("age")
    assert (
        rows[-1, age] == 0
        and rows[-2, age] == pytest.approx(np.log1p(4.0) / 3)
        and rows[-3, age] == pytest.approx(np.log1p(9) / 3)
    )
    assert rows[-1, SPEC.features.index("snr")] == pytest.approx(np.arcsinh(25.0) / 3)


def test_only_the_latest_points_are_kept_and_the_rest_counted():
    curve = light_curve(np.linspace(60900, 61000, 40))
    example = build(lsst_alert(curve=curve))
    assert example.light_curve[:, 0].all() and example.completeness.n_dropped_epochs == 28


def test_upper_limits_and_forced_points_are_told_apart():
    curve = light_curve([60990, 60995, 61000], flux=[0.0, 100.0, 5000.0], kind=[UPPER_LIMIT, FORCED, DETECTION])
    rows = build(lsst_alert(curve=curve)).light_curve[-3:]
    assert rows[:, SPEC.features.index("is_detection")].tolist() == [0, 0, 1]
    assert rows[:, SPEC.features.index("is_upper_limit")].tolist() == [1, 0, 0]


@pytest.mark.parametrize(
    "changes, expected",
    [
        ({"cutouts": Cutouts(None, None, None)}, "no_cutouts"),
        ({"cutouts": cutouts(None)}, "no_difference"),
        ({"cutouts": cutouts(np.zeros((30, 30), np.float32))}, "no_difference"),
        ({"cutouts": cutouts(np.full((30, 30), 7.0, np.float32))}, "constant_stamp"),
        ({"cutouts": cutouts(gaussian(30, 14.7, 14.4, flux=0.0, seed=3))}, "no_source"),
        ({"cutouts": Cutouts(b"x", b"y", b"SIMPLE")}, "bad_cutout"),
        ({"is_solar_system": True}, "solar_system"),
        ({"facts": {"time_is_plausible": False}}, "implausible_time"),
        ({"band": "u", "light_curve": light_curve([61000.0], kind=FORCED)}, "n_detections"),
    ],
)
def test_what_cannot_be_scored_is_refused_with_its_reason(changes, expected):
    assert reason(lsst_alert(**changes)) == expected


def test_a_cosmic_ray_is_too_sharp():
    image = gaussian(30, 14.7, 14.4, flux=0.0)
    image[14, 15] = 900.0
    assert reason(lsst_alert(cutouts=cutouts(image))) == "too_sharp"


def test_a_stamp_of_another_pixel_scale_is_refused():
    header = wcs_cards(35.0, scale_arcsec=0.263)
    data = fits_bytes(gaussian(30, 14.7, 14.4), **header)
    assert reason(lsst_alert(cutouts=Cutouts(data, data, data))) == "pixel_scale"


def test_too_few_valid_pixels_are_refused():
    image = gaussian(30, 14.7, 14.4)
    image[:, :9] = image[:, 20:] = np.nan
    image[:10] = np.nan
    assert reason(lsst_alert(cutouts=cutouts(image))) == "valid_fraction"


def test_a_missing_template_is_said_and_masked():
    example = build(lsst_alert(cutouts=cutouts(gaussian(30, 14.7, 14.4), template=False)))
    assert example.completeness.missing == ("template",)
    assert not example.image[0].any() and not example.image[2].any() and example.image[3].any()


def test_more_bands_than_the_card_asks_for_are_needed():
    card = alert_card(minimum={"n_detections": 2, "n_bands": 2, "valid_fraction": 0.3})
    assert reason(lsst_alert(), ExampleSpec.from_card(card)) == "n_bands"


def test_unknown_inputs_of_a_card_are_named():
    card = alert_card()
    card["input"]["light_curve"]["features"][3] = "signal"
    with pytest.raises(ConfigError, match="signal"):
        ExampleSpec.from_card(card)


def test_examples_are_equal_to_the_bit_in_any_company_and_order():
    alerts = [lsst_alert(alert_id=2**60 + n, angle_deg=17.0 * n, seed=n, curve=light_curve(61000 - np.arange(n % 9, -1, -1.0)))
              for n in range(40)]  # fmt: skip
    alerts[7] = lsst_alert(cutouts=Cutouts(b"x", b"y", b"SIMPLE"))
    together = build_examples(alerts, SPEC)
    backwards = build_examples(alerts[::-1], SPEC)[::-1]
    for n, alert in enumerate(alerts):
        alone = build(alert)
        for other in (together[n], backwards[n]):
            assert type(alone) is type(other)
            if isinstance(alone, Example):
                for part in ("image", "light_curve", "context"):
                    assert np.array_equal(getattr(alone, part), getattr(other, part)), (n, part)
                assert alone.completeness == other.completeness


@pytest.mark.parametrize("survey, at_least", [("ztf", 4), ("lsst", 3)])
def test_examples_of_real_alerts_are_equal_to_the_bit_in_any_company(survey, at_least):
    spec = ExampleSpec.from_card(untrained_card(survey))
    found = [p for f in sorted(DATA.glob("*.avro")) for p, _ in wire.decode_all(f.read_bytes()) if isinstance(p, wire.Packet)]
    alerts = [surveys.read_alert(p) for p in found if p.survey == survey]
    together, backwards = build_examples(alerts * 9, spec), build_examples(alerts[::-1], spec)[::-1]
    alone = [build(alert, spec) for alert in alerts]
    assert sum(isinstance(e, Example) for e in alone) >= at_least
    for n, example in enumerate(alone):
        for other in (together[n], together[-len(alone) + n], backwards[n]):
            assert type(other) is type(example)
            if isinstance(example, Example):
                for part in ("image", "light_curve", "context"):
                    assert np.array_equal(getattr(example, part), getattr(other, part)), (alerts[n].name, part)
                assert other.completeness == example.completeness


def test_context_names_the_host_and_says_what_is_unknown():
    curve = light_curve([60990.0, 61000.0], flux=[3000.0, 5000.0], total=[8000.0, 10000.0])
    known = dict(zip(SPEC.context, build(lsst_alert(curve=curve, facts={"template_flux_njy": 5000.0})).context))
    unknown = dict(zip(SPEC.context, build(lsst_alert()).context))
    assert known["host_r"] == pytest.approx(np.arcsinh(5000 / 100) / 3) and known["has_host_r"] == 1
    assert known["has_template_flux"] == 1 and unknown["has_template_flux"] == 0 and unknown["has_host_r"] == 0
    assert unknown["trigger_band_r"] == 1 and unknown["trigger_band_g"] == 0


def test_stack_keeps_the_order():
    examples = [build(lsst_alert(seed=s)) for s in range(3)]
    batch = stack(examples)
    assert len(batch) == 3 and np.array_equal(batch.images[2], examples[2].image)

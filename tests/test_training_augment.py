"""Augmentation: pixels are moved and never changed, and what is dropped looks as if it had never been there."""

import math

import numpy as np
import pytest
import torch

from dgl_broker.errors import ConfigError
from dgl_broker.training.augment import Augmentation, Augmenter, turned, turned_by_any_angle

FEATURES = ["mask", "age", "gap", "flux", "total", "has_total", "is_detection", "band_g", "band_r"]
CONTEXT = ["n_points_g", "n_detections_g", "host_g", "has_host_g", "last_detection_age_g", "n_points_r", "n_detections_r",
           "host_r", "has_host_r", "last_detection_age_r", "n_detections", "n_before", "template_flux",
           "has_template_flux"]  # fmt: skip
CARD = {
    "image": {"planes": ["template", "difference", "template_mask"], "side": 6},
    "light_curve": {"features": FEATURES, "steps": 6},
    "context": CONTEXT,
}


def curve(points, steps=6):
    """A light curve from (age in days, detected, band): gaps and scales as dgl_broker.light_curve states them."""
    out = np.zeros((steps, len(FEATURES)), np.float32)
    before = None
    for row, (age, detected, band) in zip(range(steps - len(points), steps), points):
        gap = 0.0 if before is None else before - age
        values = {"mask": 1, "age": math.log1p(age) / 3, "gap": math.log1p(gap) / 3, "flux": 0.1 * row, "total": 1,
                  "has_total": 1, "is_detection": detected, f"band_{band}": 1}  # fmt: skip
        for name, value in values.items():
            out[row, FEATURES.index(name)] = value
        before = age
    return torch.from_numpy(out)[None]


def context(g=(3, 2), r=(2, 1)):
    """Points and detections in g and r."""
    values = dict.fromkeys(CONTEXT, 0.5)
    for b, (points, detections) in zip("gr", (g, r)):
        values[f"n_points_{b}"] = math.log1p(points) / 3
        values[f"n_detections_{b}"] = math.log1p(detections) / 3
    values["n_detections"] = math.log1p(g[1] + r[1]) / 3
    return torch.tensor([[values[n] for n in CONTEXT]], dtype=torch.float32)


def applied(settings, light_curve, contexts, images=None, seed=0):
    images = torch.zeros((len(light_curve), 3, 6, 6)) if images is None else images
    augment = Augmenter(Augmentation.of({"turn": "none", **settings}), CARD)
    return augment(images, light_curve, contexts, torch.Generator().manual_seed(seed))


def test_the_eight_turns_are_the_eight_of_a_square_and_keep_every_pixel():
    image = torch.arange(2 * 9.0).reshape(1, 2, 3, 3).repeat(8, 1, 1, 1)
    out = turned(image, torch.arange(8))
    assert len({tuple(o.flatten().tolist()) for o in out}) == 8
    for o in out:
        assert sorted(o[0].flatten().tolist()) == list(range(9))
        assert o[0, 1, 1] == 4  # the source stays on the centre
        assert torch.equal(o[1], o[0] + 9)  # planes turn together


def test_the_authors_turn_fills_corners_with_zero():
    out = turned_by_any_angle(torch.ones(64, 1, 9, 9), torch.Generator().manual_seed(1))
    assert out[:, 0, 4, 4].min() == 1
    assert 0 < (out[:, 0, 0, 0] == 0).float().mean() < 1


def test_dropped_forced_points_leave_the_curve_of_a_packet_without_them():
    full = curve([(20, 0, "g"), (12, 1, "g"), (9, 0, "r"), (5, 1, "r"), (0, 1, "g")])
    _, light, ctx = applied({"drop_forced": 1.0}, full, context(g=(3, 2), r=(2, 1)))
    want = curve([(12, 1, "g"), (5, 1, "r"), (0, 1, "g")])
    want[0, :, FEATURES.index("flux")] = torch.tensor([0, 0, 0, 0.2, 0.4, 0.5])
    torch.testing.assert_close(light, want, atol=1e-5, rtol=0)
    named = dict(zip(CONTEXT, ctx[0].tolist()))
    assert named["n_points_g"] == pytest.approx(math.log1p(2) / 3) and named["n_before"] == 0


def test_a_dropped_band_takes_its_points_and_its_sums_with_it_but_never_the_trigger():
    full = curve([(12, 1, "g"), (9, 0, "r"), (5, 1, "r"), (0, 1, "g")])
    _, light, ctx = applied({"drop_band": 1.0}, full, context(g=(2, 2), r=(2, 1)))
    assert light[0, :, FEATURES.index("band_r")].sum() == 0
    assert light[0, :, FEATURES.index("mask")].tolist() == [0, 0, 0, 0, 1, 1]
    assert light[0, -1, FEATURES.index("gap")] == pytest.approx(math.log1p(12) / 3, abs=1e-5)
    named = dict(zip(CONTEXT, ctx[0].tolist()))
    assert named["n_detections"] == pytest.approx(math.log1p(2) / 3, abs=1e-6)
    assert named["has_host_r"] == 0 and named["host_r"] == 0 and named["has_host_g"] == 0.5
    assert named["last_detection_age_r"] == pytest.approx(math.log1p(400) / 3)


def test_dropped_points_keep_detections_order_and_trigger():
    points = [(30 - i, i % 3 == 0, "g") for i in range(6)]
    light = curve(points).repeat(200, 1, 1)
    _, out, _ = applied(
        {"drop_points": 1.0, "most_points": 1.0}, light, context().repeat(200, 1), images=torch.zeros(200, 3, 6, 6)
    )
    mask = out[:, :, 0]
    assert (mask[:, -1] == 1).all() and (torch.diff(mask, dim=1) >= 0).all()
    assert (out[:, :, FEATURES.index("is_detection")].sum(1) == 2).all()
    assert set(mask.sum(1).tolist()) == {3.0, 4.0, 5.0, 6.0}
    torch.testing.assert_close(out[:, -1, 1], light[:, -1, 1])


def test_dropped_totals_facts_and_template_take_their_flags_with_them():
    images = torch.ones(1, 3, 6, 6)
    settings = {"drop_totals": 1.0, "drop_facts": 1.0, "drop_template": 1.0}
    out, light, ctx = applied(settings, curve([(3, 1, "g"), (0, 1, "g")]), context(), images)
    named = dict(zip(CONTEXT, ctx[0].tolist()))
    assert named["has_host_g"] == named["template_flux"] == named["has_template_flux"] == 0
    assert light[0, :, FEATURES.index("has_total")].sum() == 0
    assert out[0, 0].sum() == out[0, 2].sum() == 0 and out[0, 1].sum() == 36


def test_nothing_asked_for_changes_nothing():
    light, ctx, images = curve([(3, 0, "g"), (0, 1, "r")]), context(), torch.rand(1, 3, 6, 6)
    out = applied({}, light, ctx, images)
    assert torch.equal(out[0], images) and torch.equal(out[1], light) and torch.equal(out[2], ctx)


def test_the_same_generator_gives_the_same_example():
    light, ctx = curve([(9, 0, "g"), (3, 0, "r"), (0, 1, "r")]), context()
    settings = {"turn": "quarters", "drop_points": 0.5, "drop_band": 0.5}
    for seed in range(5):
        a, b = (
            applied(settings, light, ctx, torch.rand(1, 3, 6, 6, generator=torch.Generator().manual_seed(1)), seed)
            for _ in "ab"
        )
        assert all(torch.equal(x, y) for x, y in zip(a, b))


@pytest.mark.parametrize("settings", [{"turn": "some"}, {"drop_points": 1.5}, {"noise": 0.1}])
def test_settings_that_are_wrong_are_refused(settings):
    with pytest.raises(ConfigError):
        Augmentation.of(settings)


def test_companions_are_dropped_band_by_band_and_the_trigger_stays():
    planes = ["template", "difference", "template:g", "difference:g", "template:r", "difference:r"]
    card = {**CARD, "image": {"planes": planes, "side": 6}}
    augment = Augmenter(Augmentation.of({"turn": "none", "drop_companion": 0.5}), card)
    light, ctx = curve([(0, 1, "g")]).repeat(200, 1, 1), context().repeat(200, 1)
    images, _, _ = augment(torch.ones(200, 6, 6, 6), light, ctx, torch.Generator().manual_seed(3))
    there = images[:, :, 0, 0]
    assert (there[:, :2] == 1).all() and (there[:, 2] == there[:, 3]).all() and (there[:, 4] == there[:, 5]).all()
    assert 0.35 < there[:, 2].mean() < 0.65 and (there[:, 2] != there[:, 4]).any()

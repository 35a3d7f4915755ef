"""Paper bundles: arrays scaled as the paper scales them, and the rare alert that has all its networks need."""

import numpy as np
import pyarrow.parquet as pq
import pytest
from make_alerts import fits_bytes, light_curve, lsst_alert, wcs_cards

from dgl_broker.alert import BANDS, Cutouts
from dgl_broker.cli import main
from dgl_broker.companions import Companion
from dgl_broker.errors import ConfigError, NotScorable
from dgl_broker.example import Example
from dgl_broker.model import save_bundle, untrained_bundle
from dgl_broker.paper_example import PaperSpec, batch_from_arrays, build_paper_examples, scale_jointly
from dgl_broker.scorer import Scorer
from dgl_broker.stamps import read_stamp

CARD = {
    "id": "paper-test", "kind": "paper", "survey": None,
    "input": {
        "image": {"side": 45, "bands": "griz", "pixel_scale_arcsec": 0.2, "zero_points_mag": [28.3, 28.13, 27.79, 27.4]},
        "light_curve": {"steps": 7, "bands": "griz", "cadence_days": 3.0},
        "minimum": {},
    },
}  # fmt: skip
SPEC = PaperSpec.from_card(CARD)


def sky(flux, side=69):
    """A stamp's bytes: a broad galaxy on a large stamp, north up."""
    y, x = np.mgrid[:side, :side] - side // 2
    pixels = (flux * np.exp(-0.5 * (x * x + y * y) / 36.0)).astype(np.float32)
    return fits_bytes(pixels, **wcs_cards(0.0, x0=side // 2, y0=side // 2))


def complete_alert(lacking_step=None):
    mjd = 61000.0 - np.repeat(np.arange(7) * 3.0, 4)[::-1] - 0.5
    mjd[-4:] = 61000.0
    keep = np.ones(28, bool)
    if lacking_step is not None:
        keep[lacking_step * 4] = False
    total = 2e4 + 1e3 * np.arange(28.0)
    curve = light_curve(mjd[keep], band="".join(np.array(list("griz" * 7))[keep]), total=total[keep])
    data = sky(500.0)
    return lsst_alert(curve=curve, cutouts=Cutouts(data, data, data), band="r")


def companions(bands="giz", side=69):
    def one(band):
        stamp = read_stamp(sky(300.0, side), "template", Cutouts(None, None, None))
        return Companion("lsst", "1", band, 2**60 + BANDS.index(band), 60990.0, stamp, stamp, 150.0, 2.2)

    return {band: one(band) for band in bands}


def test_scaling_is_joint_over_all_bands():
    values = np.zeros((1, 2, 2, 2), np.float32)
    values[0, 0], values[0, 1] = [[1, 2], [3, 5]], [[2, 2], [2, 3]]
    scaled, usable = scale_jointly(values)
    assert usable[0] and scaled[0, 0].tolist() == [[0, 0.25], [0.5, 1]] and scaled[0, 1].tolist() == [[0.25, 0.25], [0.25, 0.5]]


@pytest.mark.parametrize(
    "bad", [np.full((4, 45, 45), 3.0), np.full((4, 45, 45), np.nan), np.array([np.inf] * 8100).reshape(4, 45, 45)]
)
def test_constant_and_not_finite_samples_are_not_scaled_to_nan(bad):
    scaled, usable = scale_jointly(np.stack([bad, np.random.default_rng(0).random((4, 45, 45))]))
    assert usable.tolist() == [False, True] and np.isfinite(scaled).all()


def test_an_alert_with_all_bands_and_steps_becomes_an_example():
    example = build_paper_examples([complete_alert()], SPEC, [companions()])[0]
    assert isinstance(example, Example)
    assert example.image.shape == (4, 45, 45) and example.light_curve.shape == (7, 4)
    assert (example.image.min(), example.image.max()) == (0.0, 1.0) and (
        example.light_curve.min(),
        example.light_curve.max(),
    ) == (0.0, 1.0)
    # By hand: g has 2 x 300 nJy on its peak, r 500; a count per second is 10^(-0.4 (zero point - 31.4)) nJy.
    g, r = 600 * 10 ** (0.4 * (28.3 - 31.4)), 500 * 10 ** (0.4 * (28.13 - 31.4))
    assert example.image[1].max() / example.image[0].max() == pytest.approx(r / g, rel=0.01)
    assert example.completeness.companion_alert_ids == tuple(2**60 + BANDS.index(b) for b in "giz")


@pytest.mark.parametrize(
    "alert, found, reason",
    [
        (complete_alert(), {}, "n_bands"),
        (complete_alert(), companions("gi"), "n_bands"),
        (complete_alert(), companions(side=31), "valid_fraction"),
        (complete_alert(lacking_step=3), companions(), "light_curve_steps"),
        (lsst_alert(cutouts=Cutouts(None, None, None)), {}, "no_cutouts"),
    ],
)
def test_what_is_missing_is_refused_and_not_filled(alert, found, reason):
    result = build_paper_examples([alert], SPEC, [found])[0]
    assert isinstance(result, NotScorable) and result.reason == reason


def test_arrays_of_another_shape_are_refused_with_both_shapes():
    with pytest.raises(ConfigError, match="44"):
        batch_from_arrays(np.zeros((2, 4, 44, 44), np.float32), np.zeros((2, 7, 4), np.float32), CARD)


def paper_bundle():
    from dgl_broker.model.importer import SETS  # noqa: F401 - the sets' names exist

    return untrained_bundle("lsst", card={**CARD, "id": "paper-test", "network": {"widths": _narrow()}})


def _narrow():
    from made_up_bundles import TINY_WIDTHS

    return TINY_WIDTHS


def test_score_arrays_and_the_score_command_agree(tmp_path, capsys):
    rng = np.random.default_rng(2)
    images, curves = rng.random((5, 4, 45, 45), np.float32), rng.random((5, 7, 4), np.float32)
    images[1, 2, 3, 4] = np.nan
    images[3] = 1.0
    curves[4] = 1.0
    bundle = paper_bundle()
    scores = Scorer(bundle=bundle).score_arrays(images, curves)
    assert scores.usable.tolist() == [True, False, True, False, False]
    save_bundle(tmp_path / "b", bundle.card, bundle.networks, bundle.fusion)
    np.save(tmp_path / "x.npy", images)
    np.save(tmp_path / "y.npy", curves)
    code = main(["score", "--images", f"{tmp_path}/x.npy", "--light-curves", f"{tmp_path}/y.npy", "--bundle", f"{tmp_path}/b",
                 "--out", f"{tmp_path}/s.parquet"])  # fmt: skip
    rows = pq.read_table(tmp_path / "s.parquet").to_pylist()
    assert code == 0 and [r["row"] for r in rows] == [0, 1, 2, 3, 4]
    assert [r["status"] for r in rows] == ["scored", "refused", "scored", "refused", "refused"]
    assert [r["reason"] for r in rows] == [None, "not_finite", None, "constant_stamp", "constant_light_curve"]
    for row, value in zip(rows, scores.column("log_odds")):
        assert row["log_odds"] is None if np.isnan(value) else row["log_odds"] == pytest.approx(value, abs=1e-6)


def test_scores_of_arrays_that_cannot_be_written_are_exit_code_6(tmp_path, capsys):
    bundle = paper_bundle()
    save_bundle(tmp_path / "b", bundle.card, bundle.networks, bundle.fusion)
    np.save(tmp_path / "x.npy", np.ones((1, 4, 45, 45), np.float32))
    np.save(tmp_path / "y.npy", np.ones((1, 7, 4), np.float32))
    (tmp_path / "file").touch()
    code = main(["score", "--images", f"{tmp_path}/x.npy", "--light-curves", f"{tmp_path}/y.npy", "--bundle", f"{tmp_path}/b",
                 "--out", f"{tmp_path}/file/s.parquet"])  # fmt: skip
    assert code == 6 and "file/s.parquet" in capsys.readouterr().err


def test_pickled_arrays_are_not_opened(tmp_path):
    np.save(tmp_path / "x.npy", np.array([{"a": 1}], object), allow_pickle=True)
    bundle = paper_bundle()
    save_bundle(tmp_path / "b", bundle.card, bundle.networks, bundle.fusion)
    code = main(["score", "--images", f"{tmp_path}/x.npy", "--light-curves", f"{tmp_path}/x.npy", "--bundle", f"{tmp_path}/b",
                 "--out", f"{tmp_path}/s.parquet"])  # fmt: skip
    assert code == 3 and not (tmp_path / "s.parquet").exists()

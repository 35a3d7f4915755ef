"""Cadence, depth and seeing: the built-in model against the surveys' tables, and the arithmetic of depths."""

import os
from pathlib import Path

import numpy as np
import pytest
from sim_toys import system

from dgl_broker.alert import BANDS
from dgl_broker.sim.cadence import MODELS, cadence
from dgl_broker.sim.psf import BETAS, pixel_psf
from dgl_broker.sim.visits import draw_visits, observe_visits

SHARED = os.environ.get("DGL_SHARED") or None


@pytest.fixture(autouse=True)
def no_simulator_data(monkeypatch):
    monkeypatch.delenv("DGL_SIM_DATA", raising=False)


def _sample(survey, folder=None, points=60):
    rng = np.random.default_rng(5)
    dec = (-60, 0) if survey == "lsst" else (-20, 80)
    parts = [cadence(survey, rng.uniform(0, 360), rng.uniform(*dec), rng, folder) for _ in range(points)]
    return [np.concatenate([p[k] for p in parts]) for k in range(3)] + [parts]


@pytest.mark.skipif(SHARED is None, reason="DGL_SHARED is not set: no survey tables here")
@pytest.mark.parametrize("survey", ["lsst", "ztf"])
def test_model_cadence_has_the_tables_statistics(survey):
    _, band, depth, model = _sample(survey)
    _, table_band, table_depth, table = _sample(survey, Path(SHARED) / "data/sim")
    share, table_share = (np.bincount(b, minlength=6) / len(b) for b in (band, table_band))
    assert np.all(np.abs(share - table_share) < 0.05)
    for b in np.flatnonzero(table_share > 0.03):
        assert np.median(depth[band == b]) == pytest.approx(np.median(table_depth[table_band == b]), abs=0.25)
    # Nights a year: what sets how many epochs a light curve has. The tables' points differ by tens of per cent.
    nights, table_nights = (
        np.mean([len(np.unique(np.floor(p[0] - 0.5))) for p in x]) / MODELS[survey].years for x in (model, table)
    )
    assert nights == pytest.approx(table_nights, rel=0.35)


def test_lsst_r_depth_reaches_24p6_in_the_best_visits():
    # 24.6: r-band 5-sigma depth of a 30 s visit at zenith under a dark sky (24.59 by the arithmetic of SMTN-002).
    _, band, depth, _ = _sample("lsst")
    r = depth[band == BANDS.index("r")]
    assert 24.4 < np.percentile(r, 99) < 24.8
    assert 23.7 < np.median(r) < 24.2


def test_a_source_of_the_depth_has_signal_to_noise_five():
    rng = np.random.default_rng(3)
    n = 400
    visits = observe_visits("lsst", 61000.0 + np.arange(n), np.full(n, 2), rng.uniform(23, 24.6, n), rng)
    flux = 10 ** (0.4 * (31.4 - visits.depth_mag))  # AB magnitude to nJy, by hand
    at = np.arange(-25.0, 26.0)
    for i in range(0, n, 40):
        psf = pixel_psf(at + rng.uniform(-0.5, 0.5), at + rng.uniform(-0.5, 0.5), visits.fwhm_arcsec[i] / 0.2, visits.beta[i],
                        visits.e1[i], visits.e2[i])  # fmt: skip
        sigma = visits.pixel_sigma_njy()[i] / np.sqrt(np.sum(psf**2))  # error of an optimal fit on white noise
        # 2 %: the formula for the pixels' part of the noise area is an approximation, and so is a round PSF.
        assert flux[i] / sigma == pytest.approx(5.0, rel=0.02)


@pytest.mark.parametrize("survey, low, high", [("lsst", 0.6, 0.9), ("ztf", 1.9, 2.6)])
def test_median_seeing_is_the_surveys(survey, low, high):
    rng = np.random.default_rng(4)
    mjd, band, depth = cadence(survey, 100.0, -20.0 if survey == "lsst" else 40.0, rng)
    visits = observe_visits(survey, mjd, band, depth, rng)
    for b in np.unique(band):
        assert low < np.median(visits.fwhm_arcsec[band == b]) < high
    deep = visits.depth_mag > np.median(visits.depth_mag)
    assert np.mean(visits.fwhm_arcsec[deep & (band == 2)]) < np.mean(visits.fwhm_arcsec[~deep & (band == 2)])


@pytest.mark.parametrize("reference", [50000.0, 61000.0, 69000.0])
def test_visits_cover_the_active_days_whenever_they_are(reference):
    found = [draw_visits(system(index=i, reference_mjd_tai=reference), "lsst") for i in range(10)]
    assert sum(len(v) > 5 for v in found) >= 6  # the rest falls between seasons
    for v in found:
        assert np.all(np.diff(v.mjd_tai) >= 0)
        if len(v):
            assert v.mjd_tai[0] >= reference - 80.0 and v.mjd_tai[-1] <= reference + 150.0


def test_a_survey_moved_by_years_is_at_night_where_it_was():
    def of_day(reference):
        found = [draw_visits(system(index=i, reference_mjd_tai=reference), "lsst").mjd_tai % 1.0 for i in range(20)]
        return np.concatenate(found)

    within, before, after = (of_day(reference) for reference in (61500.0, 50000.0, 69000.0))
    assert min(map(len, (within, before, after))) > 100
    for moved in (before, after):
        assert abs(moved.min() - within.min()) < 0.05 and abs(moved.max() - within.max()) < 0.05


def test_visit_numbers_are_unique_and_name_the_night():
    v = draw_visits(system(), "lsst")
    assert len(set(v.visit.tolist())) == len(v)
    # MJD 60000 is 2023-02-25 (by the calendar); a Rubin night is named by the date 12 hours earlier.
    days = np.datetime64("2023-02-25") + (np.floor(v.mjd_tai - 0.5).astype(int) - 60000).astype("timedelta64[D]")
    assert [int(str(d).replace("-", "")) for d in days] == (v.visit // 100_000).tolist()
    assert set(v.detector.tolist()) <= set(range(189))


def test_profile_of_every_index_sums_to_one():
    at = np.arange(-60.0, 61.0)
    for beta in BETAS:
        assert pixel_psf(at, at, 4.0, beta, 0.05, -0.03).sum() == pytest.approx(1.0, abs=2e-3)

"""One population for all classes: determinism, selection, and that nothing but physics tells the classes apart."""

import os
import shutil

import numpy as np
import pytest

from dgl_broker.errors import ConfigError, InputUnavailable
from dgl_broker.scores import CLASSES
from dgl_broker.sim import population
from dgl_broker.sim.cosmology import einstein_radius_arcsec, time_delay_days_per_arcsec2
from dgl_broker.sim.population import KIND_WEIGHTS, draw_kind, draw_system
from dgl_broker.sim.rates import stream_rates
from dgl_broker.sim.selection_limits import PEAK_LIMIT_MAG, SURVEY_SPAN_MJD, needed_magnification
from dgl_broker.sim.sim_data import DRAWN_FROM, data_fingerprint
from dgl_broker.sim.system import CLASS_OF_KIND, KINDS

BANDS_OF = {"lsst": "ugrizy", "ztf": "gri"}
GEOMETRY = {"lsst": (51, 0.2), "ztf": (63, 1.01)}


@pytest.fixture(autouse=True)
def analytic_model(monkeypatch):
    monkeypatch.delenv("DGL_SIM_DATA", raising=False)


def visits(system, n=40):
    first, last = system.active_days
    return np.linspace(first, last, n) + system.reference_mjd_tai, np.arange(n) % 3 + 1


@pytest.mark.parametrize("profile", ["lsst", "ztf"])
@pytest.mark.parametrize("kind", CLASS_OF_KIND)
def test_every_kind_can_be_drawn_observed_and_drawn_again(profile, kind):
    system, again = (draw_system(profile, 3, 17, kind) for _ in range(2))
    assert system.truth == again.truth and system.catalogue == again.catalogue
    mjd, band = visits(system)
    flux, places = system.variability.flux_njy(mjd, band), system.variability.offsets_arcsec(mjd)
    assert flux.shape == (system.variability.n_sources, 40) and places.shape == (*flux.shape, 2)
    assert np.all(np.isfinite(flux)) and np.all(flux >= 0)
    np.testing.assert_array_equal(flux, again.variability.flux_njy(mjd, band))
    image = system.scene.image_njy(BANDS_OF[profile], *GEOMETRY[profile])
    assert image.shape == (len(BANDS_OF[profile]), GEOMETRY[profile][0], GEOMETRY[profile][0])
    assert image.dtype == np.float32 and np.all(np.isfinite(image)) and image.min() >= 0
    np.testing.assert_array_equal(image, again.scene.image_njy(BANDS_OF[profile], *GEOMETRY[profile]))
    assert system.label in CLASSES
    assert system.active_days[0] < system.active_days[1]
    low, high = SURVEY_SPAN_MJD[profile]
    assert low <= system.reference_mjd_tai <= high
    artefacts = {"cosmic_ray": "cosmic_ray", "bad_column": "bad_column", "dipole": "dipole",
                 "lens_bad_subtraction": "bad_subtraction"}  # fmt: skip
    assert system.artefact == artefacts.get(kind)


def test_place_dust_and_date_do_not_depend_on_the_kind():
    seen = {(s.ra, s.dec, s.reference_mjd_tai, s.truth["ebv_milky_way"], s.galaxy_id)
            for s in (draw_system("lsst", 8, 5, kind) for kind in ("lensed_sn_ia", "agn", "cosmic_ray"))}  # fmt: skip
    assert len(seen) == 1


def test_neighbours_do_not_depend_on_the_kind():
    scenes = [draw_system("lsst", 8, 6, kind).scene for kind in ("sn_ia_host", "tde")]
    first, second = ([(g.east, g.north, g.radius_arcsec) for g in scene.galaxies[1:]] for scene in scenes)
    assert first == second and len(first) > 0


def test_systems_differ_by_seed_and_index_and_no_galaxy_is_shared():
    systems = [draw_system("lsst", seed, index, "sn_ia_host") for seed in (1, 2) for index in range(5)]
    assert len({s.galaxy_id for s in systems}) == 10
    assert len({s.truth["host_mag_r"] for s in systems}) == 10
    assert max(s.galaxy_id for s in systems) < 2**63


def test_images_obey_the_lens():
    """theta_E from sigma_v, parities, |mu|, and delays against lenstronomy's Fermat potential."""
    from lenstronomy.LensModel.lens_model import LensModel

    model = LensModel(["SIE", "SHEAR"])
    for index in range(6):
        system = draw_system("lsst", 21, index, "lensed_sn_cc")
        truth, lens = system.truth, system.scene.lens
        expected = einstein_radius_arcsec(truth["sigma_v"], truth["z_lens"], truth["z_source"])
        assert truth["theta_E_arcsec"] == pytest.approx(expected)
        x, y = np.array(truth["images_arcsec"]).T
        kwargs = lens.lenstronomy_kwargs()
        np.testing.assert_allclose(truth["magnifications"], model.magnification(x, y, kwargs), rtol=0.02)
        beta = np.mean(model.ray_shooting(x, y, kwargs), axis=1)
        fermat = model.fermat_potential(x, y, kwargs, *beta)
        scale = time_delay_days_per_arcsec2(truth["z_lens"], truth["z_source"])
        np.testing.assert_allclose(truth["delays_days"], (fermat - fermat.min()) * scale, atol=2e-3)
        assert min(truth["magnifications_observed"]) > 0
        assert truth["n_images"] == len(x) >= 2
        assert truth["magnification"] == pytest.approx(np.abs(truth["magnifications"]).sum())
        flashes = system.variability.flashes
        arrivals = [flash.peak_mjd - system.reference_mjd_tai for flash in flashes]
        np.testing.assert_allclose(arrivals, truth["delays_days"], atol=1e-6)


def test_single_image_is_of_class_lens():
    for index in range(4):
        system = draw_system("lsst", 23, index, "sn_outside_images")
        assert system.label == "lens" and system.variability.n_sources == 1
        assert system.truth["n_images"] == 1 and system.scene.source is not None


@pytest.mark.parametrize("profile", ["lsst", "ztf"])
def test_peaks_pass_the_stated_limit(profile):
    for kind in ("lensed_sn_ia", "lensed_sn_cc", "sn_cc_host", "sn_ia_lrg", "sn_ia_in_lens", "tde", "slsn"):
        truth = draw_system(profile, 4, 2, kind).truth
        assert truth["peak_mag"] < truth["peak_limit_mag"][truth["peak_band"]]
        assert truth["n_draws"] >= 1


def test_unlensed_supernovae_of_ztf_are_near_and_lensed_ones_are_magnified():
    """Goldstein et al. (2019): lensed z_s .9, z_l .35, magnification 30 in the median. Our limit is the median depth, a
    magnitude fainter than where an object is identified, so magnifications are lower."""
    near = [draw_system("ztf", 5, index, "sn_ia_host").truth["z_transient"] for index in range(25)]
    lensed = [draw_system("ztf", 5, index, kind).truth for index in range(15) for kind in ("lensed_sn_ia", "lensed_sn_cc")]
    assert max(near) < 0.35
    assert 0.6 < np.median([t["z_source"] for t in lensed]) < 1.3
    assert 0.25 < np.median([t["z_lens"] for t in lensed]) < 0.6
    assert np.median([t["magnification"] for t in lensed]) > 12


def test_needed_magnification_by_hand():
    """A peak 2.5 mag fainter than the limit in its best band needs ten times the light."""
    limits = PEAK_LIMIT_MAG["lsst"]
    peak = np.array([[99.0, limits["g"] + 4.0, limits["r"] + 2.5, limits["i"] + 3.0, 99.0, 99.0]])
    assert needed_magnification(peak, "lsst")[0] == pytest.approx(10.0)


def test_catalogue_lists_the_galaxy_with_a_low_star_score_and_a_star_with_a_high_one():
    def nearest(kind, number, faintest):
        found = []
        for index in range(number):
            for entry in draw_system("lsst", 6, index, kind).catalogue:
                if np.hypot(entry.east_arcsec, entry.north_arcsec) < 0.8 and entry.magnitude.get("r", 30) < faintest:
                    found.append(entry)
        return found

    galaxies, stars = nearest("sn_ia_lrg", 25, 21.5), nearest("variable_star", 40, 20.5)
    assert len(galaxies) > 10 and len(stars) > 8
    assert np.median([entry.star_score for entry in galaxies]) < 0.2 < 0.8 < np.median([entry.star_score for entry in stars])


STATIC = ["z_lens", "z_source", "lens_mag_g", "lens_mag_r", "lens_mag_i", "lens_mag_z", "host_mag_g", "host_mag_r",
          "host_mag_i", "host_mag_z", "lens_radius_arcsec", "lens_sersic_n", "host_radius_arcsec", "host_sersic_n",
          "theta_E_arcsec", "e1", "e2", "gamma1", "gamma2"]  # fmt: skip


def static_numbers(kind, n, seed):
    rows = []
    for index in range(n):
        system = draw_system("lsst", seed, index, kind)
        source = system.scene.source
        rows.append([system.truth[name] for name in STATIC] + [np.hypot(source.east, source.north)])
    return np.array(rows)


def area_under_curve(one, other):
    """Of a forest that tells two samples apart, out of bag: 0.5 is chance."""
    from sklearn.ensemble import ExtraTreesClassifier
    from sklearn.metrics import roc_auc_score

    x, y = np.concatenate([one, other]), np.repeat([0, 1], [len(one), len(other)])
    forest = ExtraTreesClassifier(200, min_samples_leaf=5, bootstrap=True, oob_score=True, random_state=0).fit(x, y)
    return roc_auc_score(y, forest.oob_decision_function_[:, 1])


def test_static_scene_does_not_tell_lensed_supernovae_from_static_lenses():
    """The same draws: no matching needed. Chance is 0.5 +- 0.03 (one sigma) for 180 against 180."""
    lensed = np.concatenate([static_numbers("lensed_sn_ia", 90, 31), static_numbers("lensed_sn_cc", 90, 32)])
    static = static_numbers("lens_bad_subtraction", 180, 33)
    assert area_under_curve(lensed, static) < 0.60
    # The test can fail: a tenth of a magnitude in every lens is seen.
    shifted = static.copy()
    shifted[:, 2:6] += 1.5
    assert area_under_curve(lensed, shifted) > 0.75


def test_static_scene_does_not_tell_supernova_types_apart_at_equal_redshift():
    """Seen to different redshifts, which is physics; matched in redshift and brightness they are alike."""
    first, second = static_numbers("lensed_sn_ia", 160, 41), static_numbers("lensed_sn_cc", 160, 42)
    scaled = [rows[:, [0, 1, 4, 8]] / [0.12, 0.2, 0.6, 0.8] for rows in (first, second)]
    used, pairs = set(), []
    for i, row in enumerate(scaled[0]):
        distance = ((scaled[1] - row) ** 2).sum(axis=1)
        for j in np.argsort(distance)[:5]:
            if j not in used and distance[j] < 2.0:
                used.add(j)
                pairs.append((i, j))
                break
    one, other = np.array(pairs).T
    assert len(pairs) > 60
    assert area_under_curve(first[one], second[other]) < 0.62


def test_kind_mix_is_balanced_by_class():
    kinds = [draw_kind(1, index) for index in range(4000)]
    share = {label: np.mean([CLASS_OF_KIND[kind] == label for kind in kinds]) for label in CLASSES}
    for label in CLASSES:
        assert share[label] == pytest.approx(0.25, abs=0.035)
    assert set(KIND_WEIGHTS) == {kind for kinds in KINDS.values() for kind in kinds}


def test_rates_name_every_kind_and_a_source():
    """Of ZTF's bright transient survey three quarters are Ia (Perley et al. 2020); to 20.8, and all types, half or more."""
    for profile in ("lsst", "ztf"):
        rates = stream_rates(profile)
        assert set(rates) == set(CLASS_OF_KIND)
        assert all(rate.objects_per_year > 0 and rate.source for rate in rates.values())
    ztf = stream_rates("ztf")
    ia, cc = ztf["sn_ia_host"].objects_per_year, ztf["sn_cc_host"].objects_per_year
    assert 0.45 < ia / (ia + cc) < 0.85
    assert ztf["lensed_sn_ia"].objects_per_year < 1e-3 * ia


@pytest.mark.parametrize(("arguments", "complaint"), [
    (("des", 1, 1), "profile"), (("lsst", -1, 1), "seed"), (("lsst", 1, 2**32), "index"), (("lsst", 1, 1, "kilonova"), "kind"),
])  # fmt: skip
def test_wrong_arguments_are_named(arguments, complaint):
    with pytest.raises(ConfigError, match=complaint):
        draw_system(*arguments)


def test_missing_data_folder_is_an_error_and_no_folder_is_not(tmp_path):
    with pytest.raises(InputUnavailable, match="no such folder"):
        draw_system("lsst", 1, 1, "sn_cc_host", data=tmp_path / "nowhere")
    assert draw_system("lsst", 1, 1, "sn_cc_host").truth["templates"] == "analytic"
    (tmp_path / "core_collapse_seds.npz").write_bytes(b"")
    with pytest.raises(InputUnavailable, match="without SIMGEN_INCLUDE_NON1A.INPUT, cadence/visits_rubin.npz"):
        draw_system("lsst", 1, 1, "sn_ia_host", data=tmp_path)


def test_a_fingerprint_is_of_what_systems_are_drawn_from(tmp_path, monkeypatch):
    monkeypatch.delenv("DGL_SIM_DATA", raising=False)
    assert data_fingerprint() is None
    (tmp_path / "cadence").mkdir()
    for name in DRAWN_FROM:
        (tmp_path / name).write_text(name)
    shutil.copytree(tmp_path, tmp_path / "copy")
    (tmp_path / "copy" / "README.md").write_text("more")
    assert data_fingerprint(tmp_path / "copy") == data_fingerprint(tmp_path)
    shutil.copytree(tmp_path / "copy", tmp_path / "other")
    (tmp_path / "other" / DRAWN_FROM[-1]).write_text("another cadence")
    assert data_fingerprint(tmp_path / "other") != data_fingerprint(tmp_path)


def test_observed_spectra_are_used_where_they_are_given():
    shared = os.environ.get("DGL_SHARED")
    if not shared:
        pytest.skip("DGL_SHARED is not set: no spectra of Kessler et al. 2010")
    system = draw_system("lsst", 1, 1, "sn_cc_host", data=f"{shared}/data/sim")
    assert system.truth["templates"] == "kessler2010"
    assert not system.truth["sn_template"].startswith("analytic")


def test_impossible_draw_stops_instead_of_looping(monkeypatch):
    monkeypatch.setitem(population.BUILDERS, "tde", lambda draw: None)
    monkeypatch.setattr(population, "MAX_DRAWS", 5)
    with pytest.raises(RuntimeError, match="no system seen in 5 draws"):
        draw_system("lsst", 1, 1, "tde")

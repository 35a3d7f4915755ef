"""The paper's sets: preprocessing by hand, depths, defects as switches, and classes at chance without a supernova."""

import csv
import json
from dataclasses import fields

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from dgl_broker.errors import ConfigError, InputUnavailable
from dgl_broker.scores import CLASSES
from dgl_broker.sim import paper_sets
from dgl_broker.sim.paper_physical import draw_observing
from dgl_broker.sim.paper_published import Defects, PublishedSystem
from dgl_broker.sim.paper_recipe import CONFIGURATIONS, RECIPES, draw_nights
from dgl_broker.sim.paper_render import INSIDE, add_noise, aperture_light_curve, blur, point_sources, preprocess
from dgl_broker.sim.paper_sets import simulate_set, write_paper_set
from dgl_broker.sim.sim_data import DRAWN_FROM

STEPS = {"desi_dot": 14, "lsst_wide": 14, "des_wide": 7, "des_deep": 14}  # DeepGraviLens' own


@pytest.fixture(autouse=True)
def no_data(monkeypatch):
    monkeypatch.delenv("DGL_SIM_DATA", raising=False)


@pytest.fixture(scope="module")
def data(shared):
    return shared / "data" / "sim"


# --- preprocessing


def test_preprocessing_by_hand():
    """Two epochs, flat sky of 3 and 5, a source of 100 at (22, 22) and one of 40 outside the aperture in the second band."""
    images = np.zeros((2, 4, 45, 45), np.float32)
    images[0] += 3.0
    images[1] += 5.0
    images[:, 0, 22, 22] += 100.0
    images[1, 1, 2, 2] += 40.0
    curve = aperture_light_curve(images)
    expected = np.zeros((2, 4))
    expected[:, 0] = 100.0  # the sky's median times 709 pixels is taken out, the far source is not in the sum
    np.testing.assert_allclose(curve, expected, atol=1e-3)
    image, scaled, usable = preprocess(images)
    assert usable
    np.testing.assert_allclose(scaled, expected / 100.0, atol=1e-5)
    # Mean image: 4 everywhere, 104 at the source, 24 at the far one; (x - 4) / 100.
    assert image[0, 22, 22] == pytest.approx(1.0)
    assert image[1, 2, 2] == pytest.approx(0.2)
    assert image[3].max() == 0.0


def test_aperture_has_709_pixels():
    assert np.count_nonzero(INSIDE) == 709  # simulation.md 1.4
    assert INSIDE[22, 37] and not INSIDE[22, 38] and not INSIDE[33, 33]


@pytest.mark.parametrize("fill", [0.0, 7.5, np.nan, np.inf])
def test_constant_or_broken_input_is_unusable_and_finite(fill):
    image, curve, usable = preprocess(np.full((3, 4, 45, 45), fill, np.float32))
    assert not usable
    assert np.all(image == 0) and np.all(curve == 0)


# --- rendering


def test_point_source_is_integrated_over_pixels():
    sigma = np.full((1, 4), 1.4)
    stamp = point_sources([0.3], [-0.6], np.full((1, 1, 4), 50.0), sigma)[0, 0]
    assert stamp.sum() == pytest.approx(50.0, rel=1e-5)
    axis = np.arange(45) - 22
    assert stamp.sum(axis=0) @ axis / 50.0 == pytest.approx(0.3, abs=1e-4)
    assert stamp.sum(axis=1) @ axis / 50.0 == pytest.approx(-0.6, abs=1e-4)


def test_static_scene_is_blurred_as_by_another_program_and_not_shifted():
    """scipy's Gaussian filter on the padded scene; half a pixel of shift would be 9 % of the peak."""
    rng = np.random.default_rng(1)
    static = np.zeros((4, 63, 63))
    static[:, 20:45, 20:45] = rng.uniform(0, 1, (4, 25, 25))
    sigma = np.array([[1.5, 1.7, 1.6, 2.0], [1.4, 1.5, 1.6, 1.7]])
    got = blur(static, sigma)
    for t in range(2):
        for b in range(4):
            expected = gaussian_filter(static[b], sigma[t, b], truncate=8)[9:54, 9:54]
            assert np.abs(got[t, b] - expected).max() < 2e-3 * expected.max()
    np.testing.assert_allclose(blur(static, sigma[[0, 0]])[1], blur(static, sigma)[0], rtol=1e-5)


def test_noise_has_the_variance_of_sky_and_photons():
    """900 e/s for 30 s: photon noise sqrt(900 / 30) = 5.48 e/s beside a sky of 2."""
    images = np.full((40, 4, 45, 45), 900.0, np.float32)
    noisy = add_noise(np.random.default_rng(2), images, np.full((40, 4), 2.0), (30.0,) * 4)
    assert (noisy - images).std() == pytest.approx(np.sqrt(30.0 + 4.0), rel=0.01)


def test_lsst_depth_of_one_visit():
    """Single 30 s visits: r 24.6 in simulation.md; LSST's design 24.5 (Ivezic et al. 2019), g 25.0, i 24.0, z 23.3."""
    recipe = RECIPES["lsst_wide"]
    rng = np.random.default_rng(3)
    depth = 31.4 - 2.5 * np.log10(draw_observing(rng, recipe, draw_nights(rng, "lsst_wide")).five_sigma_njy[0])
    assert depth[1] == pytest.approx(24.6, abs=0.05)
    np.testing.assert_allclose(depth, [25.0, 24.5, 24.0, 23.3], atol=0.3)


def test_depth_is_what_noise_gives():
    """PSF photometry of a source at 5 sigma on 400 simulated noise images has signal to noise 5."""
    recipe = RECIPES["lsst_wide"]
    rng = np.random.default_rng(4)
    observing = draw_observing(rng, recipe, draw_nights(rng, "lsst_wide"))
    psf = point_sources([0.0], [0.0], np.ones((1, 1, 4)), observing.sigma_px[:1])[0]
    flux = observing.five_sigma_njy[0] * observing.counts_per_njy[0]
    noise = rng.standard_normal((400, 4, 45, 45)) * observing.sky_sigma[0][:, None, None]
    measured = (noise * psf).sum(axis=(2, 3)) / (psf**2).sum(axis=(1, 2))
    np.testing.assert_allclose(flux / measured.std(axis=0), 5.0, rtol=0.12)


# --- sets


@pytest.mark.parametrize("name", RECIPES)
def test_arrays_are_as_the_networks_expect(name):
    images, curves, labels, records = simulate_set(name, 5, 7)
    assert images.shape == (5, 4, 45, 45) and images.dtype == np.float32
    assert curves.shape == (5, STEPS[name], 4) and curves.dtype == np.float32
    assert images.min() == 0.0 and images.max() == 1.0 and curves.min() == 0.0 and curves.max() == 1.0
    assert [record["label"] for record in records] == [CLASSES[k] for k in labels]


def test_systems_depend_on_seed_and_index_alone():
    images, curves, labels, records = simulate_set("des_wide", 6, 3)
    later = simulate_set("des_wide", 3, 3, first=3)
    np.testing.assert_array_equal(images[3:], later[0])
    np.testing.assert_array_equal(curves[3:], later[1])
    assert records[3:] == later[3]
    assert not np.array_equal(images, simulate_set("des_wide", 6, 4)[0])
    assert len({record["galaxy_id"] for record in records}) == 6


def test_shares_of_classes_are_the_recipes():
    """0.249, 0.25, 0.25, 0.25 (GEOMETRY fractions of the configuration files)."""
    share = {label: sum(c.share for c in CONFIGURATIONS if c.label == label) for label in CLASSES}
    np.testing.assert_allclose([share[label] for label in CLASSES], [0.249, 0.25, 0.25, 0.25])


def test_lensed_supernovae_are_multiply_imaged_and_seen():
    for name in ("lsst_wide", "des_wide"):
        records = [r for r in simulate_set(name, 24, 5)[3] if r["label"].startswith("lensed")]
        assert len(records) > 5
        assert all(r["n_images"] >= 2 for r in records)
        assert all(r["n_detections"] >= RECIPES[name].detections for r in records)


def test_nights_have_the_published_cadences_statistics():
    """lsst: gaps of 12 days in the mean (11.8 to 12.4 in lsst_cadence.yaml); des_wide: 197 to 206 (des_cadence.yaml)."""
    rng = np.random.default_rng(6)
    lsst = np.mean([np.diff(draw_nights(rng, "lsst_wide"), axis=0).mean() for _ in range(200)])
    wide = np.mean([np.diff(draw_nights(rng, "des_wide"), axis=0).mean() for _ in range(200)])
    assert lsst == pytest.approx(12.1, abs=0.4)
    assert wide == pytest.approx(200.0, abs=25.0)
    np.testing.assert_array_equal(draw_nights(rng, "desi_dot")[:, 2], 3.0 * np.arange(15))


def chance_test(images, labels, seed=0):
    """Accuracy of a forest on the inner 25 x 25 pixels, trained on two thirds, and on how many it was judged."""
    from sklearn.ensemble import ExtraTreesClassifier

    x = images[:, :, 10:35, 10:35].reshape(len(images), -1)
    train = np.arange(len(x)) % 3 > 0
    forest = ExtraTreesClassifier(150, random_state=seed).fit(x[train], labels[train])
    return forest.score(x[~train], labels[~train]), int((~train).sum())


def test_without_supernova_the_lensed_classes_are_at_chance():
    """Three classes alike: a third, within three binomial errors."""
    images, _, labels, _ = simulate_set("des_wide", 660, 8, sn_off=True)
    lensed = labels > 0
    accuracy, n = chance_test(images[lensed], labels[lensed])
    assert accuracy < 1 / 3 + 3 * np.sqrt(2 / 9 / n)


def test_published_galaxies_give_the_class_away(data, monkeypatch):
    """Ia and core collapse share no galaxies in the published tables (simulation.md: 79 to 89 % without any supernova).

    Here the tables are cut to 25 rows, so that galaxies repeat in a small sample; with rows drawn from all tables that show
    the same, the classes are alike again.
    """
    from dgl_broker.sim import paper_published

    full = paper_published.tables(data)
    short = {number: {name: values[:25] for name, values in table.items()} for number, table in full.items()}
    monkeypatch.setattr(paper_published, "tables", lambda folder: short)
    accuracy = {}
    for shared in (True, False):
        defects = Defects(shared_tables=shared)
        images, _, labels, _ = simulate_set("des_wide", 330, 9, "published", sn_off=True, defects=defects, data=data)
        supernovae = labels > 1
        accuracy[shared], n = chance_test(images[supernovae], labels[supernovae])
    error = 0.5 / np.sqrt(n)
    assert accuracy[True] > 0.5 + 4 * error
    assert accuracy[False] < 0.5 + 3 * error


# --- the published profile's switches


def published(data, seed, name="lsst_wide", wanted=None, **switches):
    """The first system of a seed on that a condition holds for."""
    for k in range(400):
        rng = np.random.default_rng([seed, k])
        system = PublishedSystem(rng, RECIPES[name], data, seed, False, Defects(**switches))
        if wanted is None or wanted(system):
            return system, k
    raise AssertionError("no such system in 400 draws")


def is_double(system):
    return system.record.get("n_images") == 2 and system.record["n_detections"] > 3


def test_signed_magnification_makes_negative_sources(data):
    bad, k = published(data, 3, wanted=is_double)
    good = PublishedSystem(
        np.random.default_rng([3, k]), RECIPES["lsst_wide"], data, 3, False, Defects(signed_magnification=False)
    )
    supernova = slice(-2, None)
    assert np.min(bad.scene.flux_njy[supernova]) < 0 <= np.min(good.scene.flux_njy[supernova])
    np.testing.assert_allclose(np.abs(bad.scene.flux_njy[supernova]), good.scene.flux_njy[supernova])


def test_delay_added_shows_later_phases(data):
    """The first image is the same; the second one's flux is that of the same night seen a delay later, not earlier."""
    bad, k = published(data, 3, wanted=is_double, signed_magnification=False)
    switches = Defects(signed_magnification=False, delay_added=False)
    good = PublishedSystem(np.random.default_rng([3, k]), RECIPES["lsst_wide"], data, 3, False, switches)
    np.testing.assert_allclose(bad.scene.flux_njy[-2], good.scene.flux_njy[-2])
    assert not np.allclose(bad.scene.flux_njy[-1], good.scene.flux_njy[-1])


def test_sky_as_counts_is_too_quiet(data):
    """Published LSST depth r 25.60 instead of 24.59 (simulation.md, section 3)."""
    bad, good = (published(data, 5, sky_as_counts=switch)[0].observing.five_sigma_njy[0, 1] for switch in (True, False))
    assert 31.4 - 2.5 * np.log10(bad) == pytest.approx(25.60, abs=0.05)
    assert 31.4 - 2.5 * np.log10(good) == pytest.approx(24.59, abs=0.05)


def test_raw_mjd_hides_every_supernova(data):
    """0 % of the published DES-wide systems have an epoch near their supernova (simulation.md, section 3)."""
    for k in range(40):
        system = PublishedSystem(np.random.default_rng([6, k]), RECIPES["des_wide"], data, 6, False, Defects())
        assert system.record.get("n_detections", 0) == 0
    seen = sum(
        PublishedSystem(np.random.default_rng([6, k]), RECIPES["des_wide"], data, 6, False, Defects(raw_mjd=False)).record.get(
            "n_detections", 0
        )
        > 0
        for k in range(60)
    )
    assert seen > 3


def test_random_zero_points_jump(data):
    system, _ = published(data, 7, "des_deep")
    steady, _ = published(data, 7, "des_deep", random_zero_points=False)
    assert np.ptp(system.observing.zero_points, axis=0).max() > 0.8
    assert np.ptp(steady.observing.zero_points, axis=0).max() == 0.0


def test_template_integral_makes_core_collapse_too_bright(data):
    """Published core collapse is as bright as Ia or brighter; physical: M_B -16.75 for IIP (Richardson et al. 2014)."""
    from dgl_broker.sim.supernovae import templates

    table = templates("lsst", data)
    absolute = -19.25 + 2.5 * np.log10(table.energy / table.energy[0])
    # By hand: equal integrals, so a series with twice the integral at equal peak has half the peak.
    assert np.median(absolute[table.types == "IIP"]) > -19.25
    system, _ = published(data, 11, wanted=lambda s: s.configuration.supernova == "CC")
    assert -20.5 < system._explosion(np.random.default_rng(1), "CC", 0.7)[0].absolute_b < -16.0


def test_extra_lens_only_in_two_configurations(data):
    from dgl_broker.sim.paper_published import _WithExtraLens

    system, _ = published(data, 8, wanted=lambda s: s.configuration.number == 6)
    beta = _WithExtraLens(system.lens).source_plane(np.array([2.0]), np.array([0.0]))
    plain = system.lens.source_plane(np.array([2.0]), np.array([0.0]))
    np.testing.assert_allclose(plain[0] - beta[0], 1.0, atol=1e-9)


def test_copies_are_turns_and_mirrors_with_one_light_curve(data):
    defects = Defects(copies=True)
    images, curves, labels, records = simulate_set("desi_dot", 16, 4, "published", defects=defects, data=data)
    assert len({c.tobytes() for c in curves}) == 2 and len({r["system"] for r in records}) == 2
    np.testing.assert_array_equal(images[1], np.rot90(images[0], axes=(1, 2)))
    np.testing.assert_array_equal(images[4], images[0][:, :, ::-1])
    assert len({i.tobytes() for i in images[:8]}) == 8


def test_every_defect_has_a_switch():
    assert {f.name for f in fields(Defects)} >= {
        "sky_as_counts", "signed_magnification", "delay_added", "template_integral", "random_zero_points", "raw_mjd",
        "shared_tables", "extra_lens", "copies",
    }  # fmt: skip


def test_published_profile_needs_its_tables(tmp_path):
    with pytest.raises(InputUnavailable, match="DGL_SIM_DATA"):
        simulate_set("des_wide", 1, 1, "published")
    (tmp_path / "cadence").mkdir()
    for name in DRAWN_FROM:
        (tmp_path / name).touch()
    with pytest.raises(InputUnavailable, match="full_config"):
        simulate_set("des_wide", 1, 1, "published", data=tmp_path)


@pytest.mark.parametrize(("name", "profile"), [("des_narrow", "physical"), ("des_wide", "perfect")])
def test_wrong_names_are_named(name, profile):
    with pytest.raises(ConfigError, match=name if profile == "physical" else profile):
        simulate_set(name, 1, 1, profile)


# --- folders


def test_folder_is_written_resumed_and_not_mixed(tmp_path, monkeypatch):
    monkeypatch.setattr(paper_sets, "PER_SHARD", 5)
    told = []
    assert write_paper_set("des_wide", 12, 3, tmp_path / "a", workers=1, progress=told.append) == 0
    assert sum(told) == 12
    with open(tmp_path / "a" / "records.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    images, curves, labels, _ = simulate_set("des_wide", 12, 3)
    assert [int(row["system"]) for row in rows] == list(range(12))
    for row, image, curve, label in zip(rows, images, curves, labels):
        assert int(row["group"]) == label + 1
        np.testing.assert_array_equal(np.load(tmp_path / "a" / f"GROUP_{row['group']}_ims_7.npy")[int(row["row"])], image)
        np.testing.assert_array_equal(np.load(tmp_path / "a" / f"GROUP_{row['group']}_lcs_7.npy")[int(row["row"])], curve)
    assert json.loads((tmp_path / "a" / "simulate.json").read_text())["profile"] == "physical"
    # A finished folder is left as it is; other arguments are refused.
    before = (tmp_path / "a" / "records.csv").stat().st_mtime_ns
    assert write_paper_set("des_wide", 12, 3, tmp_path / "a", workers=1) == 0
    assert (tmp_path / "a" / "records.csv").stat().st_mtime_ns == before
    with pytest.raises(ConfigError, match="seed 3, now 4"):
        write_paper_set("des_wide", 12, 4, tmp_path / "a", workers=1)


def test_interrupted_run_keeps_its_shards(tmp_path, monkeypatch):
    monkeypatch.setattr(paper_sets, "PER_SHARD", 4)
    made, real = [], paper_sets._write_shard

    def stop_at_second(plan, number, *rest):
        if number == 1 and not made.count("stop"):
            made.append("stop")
            raise KeyboardInterrupt
        made.append(number)
        return real(plan, number, *rest)

    monkeypatch.setattr(paper_sets, "_write_shard", stop_at_second)
    with pytest.raises(KeyboardInterrupt):
        write_paper_set("des_wide", 10, 3, tmp_path, workers=1)
    write_paper_set("des_wide", 10, 3, tmp_path, workers=1)
    assert made == [0, "stop", 1, 2]
    assert sum(len(np.load(tmp_path / f"GROUP_{group}_lcs_7.npy")) for group in range(1, 5)) == 10
    assert not (tmp_path / "shards").exists()

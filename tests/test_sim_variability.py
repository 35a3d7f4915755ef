"""What varies: damped random walks, delays, folded and outbursting stars, objects that move."""

import numpy as np
import pytest

from dgl_broker.alert import BANDS
from dgl_broker.sim.quasars import draw_walk, nucleus_magnitudes
from dgl_broker.sim.supernovae import Explosion, templates
from dgl_broker.sim.variability import Explosions, Flash, MovingObject, Nucleus, OutburstingStar, RandomWalk, Together

R = BANDS.index("r")
SPAN = (60000.0, 64000.0)


def test_random_walk_has_its_asymptotic_variance_and_memory():
    """Var = SF_inf^2 / 2 and correlation exp(-dt / tau) (Kelly et al. 2009), over 300 walks."""
    rng = np.random.default_rng(3)
    walks = [RandomWalk(rng, *SPAN, 100.0, np.full(6, 0.3)) for _ in range(300)]
    times = SPAN[0] + np.array([50.0, 150.0, 1500.0])
    seen = np.array([walk.magnitude(times, np.full(3, R)) for walk in walks])
    assert seen.var() == pytest.approx(0.3**2 / 2, rel=0.12)
    correlation = np.corrcoef(seen.T)
    assert correlation[0, 1] == pytest.approx(np.exp(-1.0), abs=0.13)
    assert abs(correlation[0, 2]) < 0.18


def test_random_walk_is_the_same_whatever_visits_are_asked_for():
    walk = RandomWalk(np.random.default_rng(1), *SPAN, 200.0, np.full(6, 0.2))
    many = np.sort(np.random.default_rng(2).uniform(*SPAN, 200))
    np.testing.assert_array_equal(walk.magnitude(many, np.full(200, R))[50:60], walk.magnitude(many[50:60], np.full(10, R)))


def test_structure_function_of_a_typical_quasar():
    """MacLeod et al. (2010): SF_inf about 0.2 mag and tau about 200 rest-frame days for M_i = -26 at 5000 A."""
    rng = np.random.default_rng(5)
    walks = [draw_walk(rng, -26.0, 1.3, "lsst", (60000.0, 60010.0)) for _ in range(300)]
    assert 0.12 < np.median([walk.sf_infinity[R] for walk in walks]) < 0.28
    assert np.median([walk.sf_infinity[0] for walk in walks]) > np.median([walk.sf_infinity[5] for walk in walks])


def test_quasar_magnitude_at_redshift_two():
    """M_i(z=2) = -26 at z = 2 with DM 45.99: i = -26 + 45.99 - 2.5 log10(3) (Richards et al. 2006, eq. 3: K = 0 by definition,
    i_nu keeps (1 + z) of the bandpass), to 0.15 mag."""
    i = nucleus_magnitudes(-26.0, 2.0, "lsst")[BANDS.index("i")]
    assert i == pytest.approx(-26.0 + 45.99, abs=0.15)


def test_later_image_of_a_quasar_shows_the_past():
    walk = RandomWalk(np.random.default_rng(4), *SPAN, 80.0, np.full(6, 0.4))
    quasar = Nucleus([[0, 0], [1, 0]], np.full(6, 20.0), walk, (2.0, 1.0), (0.0, 40.0), (0.0, 0.0))
    times = SPAN[0] + np.arange(500.0, 900.0, 20.0)
    first, second = quasar.flux_njy(times, np.full(len(times), R))
    np.testing.assert_allclose(second[2:], first[:-2] / 2.0, rtol=1e-9)


def test_later_image_of_a_supernova_shows_an_earlier_phase():
    table = templates("lsst", None).light_curve(Explosion(0, "Ia", "hsiao", -19.25, 1.0, 0.0, 0.0), 0.7, 0.0)
    images = Explosions([[0, 0], [1, 0]], [Flash(table, 61000.0, 3.0), Flash(table, 61025.0, 1.5)])
    times = 61000.0 + np.arange(-40.0, 120.0, 1.0)
    first, second = images.flux_njy(times, np.full(len(times), R))
    assert times[second.argmax()] - times[first.argmax()] == 25.0
    assert first.max() == pytest.approx(2.0 * second.max(), rel=1e-9)
    # While the first fades the second still rises: its phase is the earlier one.
    at = int(np.argmin(np.abs(times - 61012.0)))
    assert first[at + 1] < first[at] and second[at + 1] > second[at]
    np.testing.assert_allclose(second[25:], 0.5 * first[:-25], rtol=1e-9)


def test_outburst_rises_holds_and_fades():
    star = OutburstingStar(np.full(6, 20.0), [100.0], 1.0, 5.0, 2.0, np.full(6, 4.0))
    flux = star.flux_njy(np.array([99.0, 101.0, 105.0, 130.0]), np.full(4, R))[0]
    mag = 31.4 - 2.5 * np.log10(flux)
    np.testing.assert_allclose(mag, [20.0, 16.0, 16.0, 20.0], atol=1e-3)


def test_moving_object_is_met_once():
    mover = MovingObject(np.full(6, 21.0), 600.0, 0.3, 0.5, 61000.0)
    times = np.array([60985.0, 60999.4, 60999.42, 61030.0])
    flux, place = mover.flux_njy(times, np.full(4, R))[0], mover.offsets_arcsec(times)[0]
    # The visit nearest to the reference meets it half an arcsec off; half an hour earlier it is 12" away.
    assert np.hypot(*place[2]) == pytest.approx(0.5)
    assert np.hypot(*(place[2] - place[1])) == pytest.approx(600.0 * 0.02, rel=1e-6)
    np.testing.assert_array_equal(flux > 0, [False, True, True, False])
    assert not np.any(mover.flux_njy(np.array([60900.0]), np.array([R])))


def test_parts_together_keep_their_order():
    table = templates("lsst", None).light_curve(Explosion(0, "Ia", "hsiao", -19.25, 1.0, 0.0, 0.0), 0.2, 0.0)
    one, two = (Explosions([[k, 0.0]], [Flash(table, 61000.0 + 30 * k)]) for k in range(2))
    both, times = Together(one, two), np.array([61000.0, 61030.0])
    assert both.n_sources == 2
    np.testing.assert_array_equal(both.flux_njy(times, np.full(2, R))[1], two.flux_njy(times, np.full(2, R))[0])
    np.testing.assert_array_equal(both.offsets_arcsec(times)[:, 0, 0], [0.0, 1.0])

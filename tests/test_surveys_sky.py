import astropy.units as u
import numpy as np
import pytest
from astropy.coordinates import BarycentricMeanEcliptic, SkyCoord

from dgl_broker.surveys.sky import sky_facts


@pytest.mark.parametrize("ra, dec", np.random.default_rng(3).uniform((0, -90), (360, 90), (60, 2)).tolist())
def test_coordinates_agree_with_astropy(ra, dec):
    facts = sky_facts(ra, dec)
    theirs = SkyCoord(ra * u.deg, dec * u.deg)
    galactic, ecliptic = theirs.galactic, theirs.transform_to(BarycentricMeanEcliptic(equinox="J2000"))
    # 1e-5 deg = 0.04": astropy goes by way of FK5, whose frame is turned by 0.02"; ecliptics by a like amount
    assert facts["galactic_latitude_deg"] == pytest.approx(galactic.b.deg, abs=1e-5)
    turn = (facts["galactic_longitude_deg"] - galactic.l.deg + 180) % 360 - 180
    assert abs(turn) * np.cos(galactic.b.rad) < 1e-5
    assert facts["ecliptic_latitude_deg"] == pytest.approx(ecliptic.lat.deg, abs=2e-5)


def test_galactic_centre_and_poles():
    centre = sky_facts(266.40499, -28.93617)  # Reid & Brunthaler 2004: l = b = 0 at J2000
    assert abs(centre["galactic_latitude_deg"]) < 1e-4
    assert min(centre["galactic_longitude_deg"], 360 - centre["galactic_longitude_deg"]) < 1e-4
    assert sky_facts(192.85948, 27.12825)["galactic_latitude_deg"] == pytest.approx(90, abs=1e-3)
    assert sky_facts(270.0, 66.560708)["ecliptic_latitude_deg"] == pytest.approx(90, abs=1e-3)
    assert sky_facts(0.0, 90.0)["galactic_longitude_deg"] == pytest.approx(122.93192, abs=1e-3)

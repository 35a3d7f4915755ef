"""What a survey says about a known moving object at a detection."""

import numpy as np

from dgl_broker.photometry import AB_ZERO_POINT_NJY

OBLIQUITY_DEG = 23.4393  # J2000, IAU 2006
GALACTIC_POLE_DEG = (192.85948, 27.12825)  # ra, dec of the north pole, J2000
GALACTIC_NODE_DEG = 122.93192  # Galactic longitude of the north celestial pole
LETTERS = "ABCDEFGHJKLMNOPQRSTUVWXY"  # half-months of provisional designations: no I, no Z


def ecliptic(ra, dec):
    """Ecliptic longitude and latitude [deg] of an ICRS place [deg]."""
    tilt, a, d = np.deg2rad([OBLIQUITY_DEG, ra, dec])
    latitude = np.arcsin(np.sin(d) * np.cos(tilt) - np.cos(d) * np.sin(tilt) * np.sin(a))
    longitude = np.arctan2(np.sin(a) * np.cos(tilt) + np.tan(d) * np.sin(tilt), np.cos(a))
    return float(np.rad2deg(longitude) % 360.0), float(np.rad2deg(latitude))


def galactic(ra, dec):
    """Galactic longitude and latitude [deg] of an ICRS place [deg]."""
    a, d, pole_a, pole_d, node = np.deg2rad([ra, dec, *GALACTIC_POLE_DEG, GALACTIC_NODE_DEG])
    latitude = np.arcsin(np.sin(d) * np.sin(pole_d) + np.cos(d) * np.cos(pole_d) * np.cos(a - pole_a))
    across = np.cos(d) * np.sin(a - pole_a)
    along = np.sin(d) * np.cos(pole_d) - np.cos(d) * np.sin(pole_d) * np.cos(a - pole_a)
    return float(np.rad2deg(node - np.arctan2(across, along)) % 360.0), float(np.rad2deg(latitude))


def designation(rng):
    """A provisional designation such as 2019 QK141."""
    first, second = (LETTERS[k] for k in rng.integers(0, len(LETTERS), 2))
    return f"20{rng.integers(10, 26)} {first}{second}{rng.integers(1, 300)}"


def moving_object_record(source_id, object_id, ra, dec, flux_njy, rng):
    """An ssSource record of LSST for a main-belt asteroid predicted at (ra, dec) [deg]."""
    longitude, latitude = ecliptic(ra, dec)
    l, b = galactic(ra, dec)
    distance = float(rng.uniform(1.2, 2.5))  # au, main belt near opposition
    return {
        "diaSourceId": source_id,
        "ssObjectId": object_id,
        "designation": designation(rng),
        "eclLambda": longitude,
        "eclBeta": latitude,
        "galLon": l,
        "galLat": b,
        "elongation": float(rng.uniform(90, 180)),
        "phaseAngle": float(rng.uniform(1, 25)),
        "topoRange": distance,
        "helioRange": distance + 0.9,
        "ephRa": ra,
        "ephDec": dec,
        "ephVmag": float(AB_ZERO_POINT_NJY - 2.5 * np.log10(max(abs(flux_njy), 1.0))),
        "ephRate": float(rng.uniform(0.1, 0.4)),
        "ephOffset": float(abs(0.3 * rng.standard_normal())),
    }

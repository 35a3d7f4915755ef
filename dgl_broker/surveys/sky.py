"""Galactic and ecliptic coordinates of one position, without astropy: pre-cuts ask for them before anything else is done."""

import math

# ICRS to Galactic, ESA 1997 (The Hipparcos and Tycho Catalogues, ESA SP-1200, vol. 1, eq. 1.5.11); rows are the Galactic axes.
_TO_GALACTIC = (
    (-0.0548755604162154, -0.8734370902348850, -0.4838350155487132),
    (0.4941094278755837, -0.4448296299600112, 0.7469822444972189),
    (-0.8676661490190047, -0.1980763734312015, 0.4559837761750669),
)
_OBLIQUITY = math.radians(84381.406 / 3600)  # of the ecliptic at J2000, IAU 2006 (Capitaine et al. 2003, A&A 412, 567)


def sky_facts(ra_deg, dec_deg):
    """Galactic latitude and longitude and ecliptic latitude [deg] of an ICRS position, as facts."""
    ra, dec = math.radians(ra_deg), math.radians(dec_deg)
    x, y, z = math.cos(dec) * math.cos(ra), math.cos(dec) * math.sin(ra), math.sin(dec)
    gx, gy, gz = (a * x + b * y + c * z for a, b, c in _TO_GALACTIC)
    ecliptic = z * math.cos(_OBLIQUITY) - y * math.sin(_OBLIQUITY)
    return {
        "galactic_latitude_deg": math.degrees(math.atan2(gz, math.hypot(gx, gy))),
        "galactic_longitude_deg": math.degrees(math.atan2(gy, gx)) % 360.0,
        "ecliptic_latitude_deg": math.degrees(math.asin(max(-1.0, min(1.0, ecliptic)))),
    }

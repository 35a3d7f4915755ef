"""Alerts made by hand for tests of single rooms: small, exact, no survey format involved."""

import gzip
import io

import numpy as np
from astropy.io import fits

from dgl_broker.alert import BANDS, DETECTION, Alert, Cutouts, LightCurve


def fits_bytes(pixels, gzipped=False, **cards):
    """A FITS file of one image, written by astropy."""
    hdu = fits.PrimaryHDU(np.asarray(pixels))
    for key, value in cards.items():
        hdu.header[key] = value
    out = io.BytesIO()
    hdu.writeto(out)
    return gzip.compress(out.getvalue()) if gzipped else out.getvalue()


def gaussian(side, x0, y0, sigma=1.7, flux=5000.0, noise=5.0, seed=0):
    """A point source of `flux` on noise, (side, side) float32."""
    y, x = np.mgrid[:side, :side]
    source = flux / (2 * np.pi * sigma**2) * np.exp(-0.5 * ((x - x0) ** 2 + (y - y0) ** 2) / sigma**2)
    return (source + np.random.default_rng(seed).normal(0, noise, (side, side))).astype(np.float32)


def wcs_cards(angle_deg, scale_arcsec=0.2, x0=14.7, y0=14.4, ra=150.0, dec=2.2):
    """The header of an LSST stamp: matrix in degrees, no CTYPE, CRPIX on the source."""
    c, s = np.cos(np.radians(angle_deg)), np.sin(np.radians(angle_deg))
    scale = scale_arcsec / 3600
    return {
        "WCSAXES": 2, "CRPIX1": x0 + 1, "CRPIX2": y0 + 1, "PC1_1": -scale * c, "PC1_2": scale * s, "PC2_1": scale * s,
        "PC2_2": scale * c, "CDELT1": 1.0, "CDELT2": 1.0, "CRVAL1": ra, "CRVAL2": dec,
    }  # fmt: skip


def light_curve(mjd, band="r", flux=5000.0, err=200.0, kind=DETECTION, total=np.nan):
    """A light curve; scalars are repeated."""
    n = len(mjd)
    bands = np.array([BANDS.index(b) for b in (band * n if len(band) == 1 else band)], np.int8)

    def column(value, dtype=float):
        return np.array(np.broadcast_to(value, n), dtype)

    return LightCurve(
        np.asarray(mjd, float), bands, column(flux), column(err), column(kind, np.int8), column(total), column(err)
    )


def lsst_alert(alert_id=2**60 + 1, mjd=61000.0, angle_deg=35.0, curve=None, seed=0, facts=None, **changes):
    """An LSST-like alert: 30 px stamps rotated by `angle_deg`, a source in the difference."""
    cards = wcs_cards(angle_deg)
    x0, y0 = cards["CRPIX1"] - 1, cards["CRPIX2"] - 1
    difference = fits_bytes(gaussian(30, x0, y0, seed=seed), **cards)
    template = fits_bytes(gaussian(30, x0, y0, 3.0, 40000.0, 2.0, seed + 1), **cards)
    values = {
        "survey": "lsst", "schema": "lsst 10.0", "alert_id": alert_id, "object_id": "313897383979122767", "ra": 150.0,
        "dec": 2.2, "mjd_tai": mjd, "band": "r", "flux_njy": 5000.0, "flux_err_njy": 200.0, "reliability": 0.7,
        "is_solar_system": False, "first_detection_mjd_tai": mjd - 9.0, "n_detections": 3,
        "light_curve": curve or light_curve([mjd - 9, mjd - 4, mjd]),
        "cutouts": Cutouts(difference, template, difference), "facts": facts or {},
    }  # fmt: skip
    return Alert(**(values | changes))


def alert_card(survey="lsst", **changes):
    """The `input` of a card as the default bundles have it, on small steps."""
    from dgl_broker.context import context_names
    from dgl_broker.light_curve import POINT_FEATURES

    bands = {"lsst": "ugrizy", "ztf": "gri"}[survey]
    side, scale = {"lsst": (30, 0.2), "ztf": (31, 1.012)}[survey]
    card = {
        "id": f"{survey}-test", "kind": "alert", "survey": survey,
        "input": {
            "bands": bands,
            "image": {
                "side": side, "pixel_scale_arcsec": scale, "softening_njy": 20.0,
                "planes": ["template", "difference", "template_mask", "difference_mask"],
            },
            "light_curve": {"steps": 12, "features": list(POINT_FEATURES), "softening_njy": 100.0},
            "context": list(context_names(survey, bands)),
            "minimum": {"n_detections": 1, "n_bands": 1, "valid_fraction": 0.3, "stamp_snr": 2.5, "max_sharpness": 0.8},
        },
    }  # fmt: skip
    card["input"].update(changes)
    return card

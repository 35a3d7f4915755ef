"""Facts of an LSST `diaSource`: one table of fields, so that the first stage and the whole packet say the same."""

import math

from dgl_broker.photometry import AB_ZERO_POINT_NJY
from dgl_broker.surveys.facts import PLAUSIBLE_MJD
from dgl_broker.surveys.sky import sky_facts
from dgl_broker.surveys.values import flag, number, number_above

STAR_ABOVE = 0.5  # Fink's legacydr8_pstar: 0 galaxy to 1 star
REDSHIFT_ERROR = 0.05  # of 1 + z: 0.37 mag of distance modulus at z = 0.5
SIGMA_TO_FWHM = 2.0 * math.sqrt(2.0 * math.log(2.0))

NUMBERS = {
    "ra": "ra",
    "dec": "dec",
    "mjd_tai": "midpointMjdTai",
    "processed_mjd_tai": "timeProcessedMjdTai",
    "reliability": "reliability",
    "extendedness": "extendedness",
    "science_flux_njy": "scienceFlux",
    "science_flux_err_njy": "scienceFluxErr",
    "template_flux_njy": "templateFlux",
    "template_flux_err_njy": "templateFluxErr",
}
FLAGS = {"is_dipole": "isDipole", "has_pixel_flags": "pixelFlags", "is_injected": "pixelFlags_injected"}
COMPOSED = {
    "survey": ("diaSourceId",),
    "band": ("band",),
    "magnitude": ("psfFlux",),
    "is_positive": ("psfFlux",),
    "snr": ("psfFlux", "psfFluxErr"),
    "time_is_plausible": ("midpointMjdTai",),
    "is_withdrawn": ("timeWithdrawnMjdTai",),
    "galactic_latitude_deg": ("ra", "dec"),
    "galactic_longitude_deg": ("ra", "dec"),
    "ecliptic_latitude_deg": ("ra", "dec"),
    "psf_fwhm_arcsec": ("ixxPSF", "iyyPSF"),
}
FIELDS_OF_FACT = {
    fact: tuple(f"diaSource.{field}" for field in fields)
    for fact, fields in {**{f: (field,) for f, field in {**NUMBERS, **FLAGS}.items()}, **COMPOSED}.items()
}


def leading_facts(leading):
    """Facts of `diaSource`; see `dgl_broker.surveys.leading_facts`."""
    source = leading.get("diaSource") or {}
    facts = {fact: number(source[field]) for fact, field in NUMBERS.items() if field in source}
    facts.update({fact: flag(source[field]) for fact, field in FLAGS.items() if field in source})
    facts["survey"] = "lsst"
    if "band" in source:
        facts["band"] = source["band"]
    if facts.get("mjd_tai") is not None:
        facts["time_is_plausible"] = PLAUSIBLE_MJD[0] < facts["mjd_tai"] < PLAUSIBLE_MJD[1]
    if "timeWithdrawnMjdTai" in source:
        facts["is_withdrawn"] = number_above(source["timeWithdrawnMjdTai"], 0.0) is not None
    if facts.get("ra") is not None and facts.get("dec") is not None:
        facts.update(sky_facts(facts["ra"], facts["dec"]))
    if "ixxPSF" in source and "iyyPSF" in source:
        facts["psf_fwhm_arcsec"] = _psf_fwhm(number(source["ixxPSF"]), number(source["iyyPSF"]))
    if "psfFlux" in source:
        flux, err = number(source["psfFlux"]), number(source.get("psfFluxErr"))
        facts["is_positive"] = None if flux is None else flux > 0
        facts["magnitude"] = AB_ZERO_POINT_NJY - 2.5 * math.log10(abs(flux)) if flux else None
        if "psfFluxErr" in source:
            facts["snr"] = abs(flux) / err if flux is not None and err and err > 0 else None
    return facts


def _psf_fwhm(ixx_arcsec2, iyy_arcsec2):
    """FWHM [arcsec] of a Gaussian of these second moments [arcsec2], or None."""
    if ixx_arcsec2 is None or iyy_arcsec2 is None or ixx_arcsec2 + iyy_arcsec2 <= 0:
        return None
    return SIGMA_TO_FWHM * math.sqrt(0.5 * (ixx_arcsec2 + iyy_arcsec2))


def host_redshift(record):
    """Photometric redshift of the Legacy Surveys galaxy that Fink found at the trigger, or None.

    Only of a galaxy (`pstar` is a star's score), and only where its error is small: real copies hold 2.5 +- 0.6.
    """
    matched = record.get("xm") or {}
    redshift, error = number_above(matched.get("legacydr8_zphot"), 0.0), number_above(matched.get("legacydr8_e_zphot"), 0.0)
    star = number(matched.get("legacydr8_pstar"))
    if redshift is None or error is None or star is None or star >= STAR_ABOVE or error > REDSHIFT_ERROR * (1.0 + redshift):
        return None
    return redshift

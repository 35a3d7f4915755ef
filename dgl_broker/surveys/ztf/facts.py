"""Facts of a ZTF candidate: one table of fields, so that the first stage and the whole packet say the same."""

import math

from dgl_broker.photometry import LN10_OVER_2P5, mjd_tai_from_jd_utc
from dgl_broker.surveys.sky import sky_facts
from dgl_broker.surveys.values import exact_id, number_above
from dgl_broker.surveys.ztf.history import BAND_OF_FID, MAGNITUDES, PIXEL_SCALE_ARCSEC, exposure_of, sign

GALAXY_BELOW_STAR_SCORE = 0.5  # sgscore: closer to 0 means galaxy (ZTF alert schema)
FIRST_JD = 2457754.5  # 2017, before the survey's first light
ANY, NOT_NEGATIVE, MAGNITUDE = -math.inf, -1e-9, MAGNITUDES[0]  # what a known value lies above; sentinels are -999

NUMBERS = {
    "ra": ("ra", ANY),
    "dec": ("dec", ANY),
    "programid": ("programid", NOT_NEGATIVE),
    "n_bad_pixels": ("nbad", NOT_NEGATIVE),
    "reference_magnitude": ("magnr", MAGNITUDE),
    "solar_system_separation_arcsec": ("ssdistnr", NOT_NEGATIVE),
    "star_score": ("sgscore1", NOT_NEGATIVE),
    "star_separation_arcsec": ("distpsnr1", NOT_NEGATIVE),
}
for _n in (1, 2, 3):
    NUMBERS[f"ps1_{_n}_separation_arcsec"] = (f"distpsnr{_n}", NOT_NEGATIVE)
    NUMBERS[f"ps1_{_n}_star_score"] = (f"sgscore{_n}", NOT_NEGATIVE)
    NUMBERS.update({f"ps1_{_n}_{band}": (f"s{band}mag{_n}", MAGNITUDE) for band in "griz"})
WHOLE = ("programid", "n_bad_pixels")
IN_PIXELS = {"psf_fwhm_arcsec": "fwhm", "reference_separation_arcsec": "distnr"}
COMPOSED = {
    "survey": ("candid",),
    "band": ("fid",),
    "mjd_tai": ("jd", "exptime"),
    "time_is_plausible": ("jd",),
    "magnitude": ("magpsf",),
    "snr": ("sigmapsf",),
    "is_positive": ("isdiffpos",),
    "reliability": ("rb", "drb", "drbversion"),
    "n_detections": ("ndethist",),
    "days_since_first": ("jd", "exptime", "jdstarthist"),
    "host_separation_arcsec": tuple(f"{what}{n}" for n in (1, 2, 3) for what in ("distpsnr", "sgscore")),
    "galactic_latitude_deg": ("ra", "dec"),
    "galactic_longitude_deg": ("ra", "dec"),
    "ecliptic_latitude_deg": ("ra", "dec"),
}
FIELDS_OF_FACT = {
    fact: tuple(f"candidate.{field}" for field in fields)
    for fact, fields in {
        **{fact: (field,) for fact, (field, _) in NUMBERS.items()},
        **{fact: (field,) for fact, field in IN_PIXELS.items()},
        **COMPOSED,
    }.items()
}


def leading_facts(leading):
    """Facts of `candidate`; see `dgl_broker.surveys.leading_facts`."""
    candidate = leading.get("candidate") or {}
    facts = {f: number_above(candidate[field], floor) for f, (field, floor) in NUMBERS.items() if field in candidate}
    facts.update({fact: int(facts[fact]) for fact in WHOLE if facts.get(fact) is not None})
    for fact, field in IN_PIXELS.items():
        if field in candidate:
            pixels = number_above(candidate[field], NOT_NEGATIVE)
            facts[fact] = None if pixels is None else pixels * PIXEL_SCALE_ARCSEC
    facts["survey"] = "ztf"
    if "fid" in candidate:
        facts["band"] = BAND_OF_FID.get(candidate["fid"])
    if "magpsf" in candidate:
        facts["magnitude"] = number_above(candidate["magpsf"], MAGNITUDE)
    if "sigmapsf" in candidate:
        error = number_above(candidate["sigmapsf"], 0.0)
        facts["snr"] = None if error is None else 1.0 / (LN10_OVER_2P5 * error)
    if "isdiffpos" in candidate:
        facts["is_positive"] = {1.0: True, -1.0: False}.get(sign(candidate["isdiffpos"]))
    if "drb" in candidate or "rb" in candidate:
        facts["reliability"] = _reliability(candidate)
    if facts.get("ra") is not None and facts.get("dec") is not None:
        facts.update(sky_facts(facts["ra"], facts["dec"]))
    if exact_id(candidate.get("ndethist")) is not None:
        facts["n_detections"] = exact_id(candidate["ndethist"])
    if all(f"{what}{n}" in candidate for n in (1, 2, 3) for what in ("distpsnr", "sgscore")):
        facts["host_separation_arcsec"] = _host_separation(facts)
    jd = number_above(candidate.get("jd"), FIRST_JD)
    if jd is not None:
        facts["time_is_plausible"] = True
        facts["mjd_tai"] = float(mjd_tai_from_jd_utc(jd, exposure_of(candidate.get("exptime"))))
        first = stated_first(candidate)
        if first is not None and first <= facts["mjd_tai"]:
            facts["days_since_first"] = facts["mjd_tai"] - first
    return facts


def _reliability(candidate):
    """drb, else rb, or None. An archive's copy of schemas before 3.3 has a drb of 0 without a version: that is none."""
    drb = number_above(candidate.get("drb"), NOT_NEGATIVE)
    if drb is not None and candidate.get("drbversion") != "":
        return drb
    return number_above(candidate.get("rb"), NOT_NEGATIVE)


def stated_first(candidate):
    """First detection [MJD TAI] as `jdstarthist` states it, or None; its exposure is taken to be as long as the trigger's."""
    jd = number_above(candidate.get("jdstarthist"), FIRST_JD)
    return None if jd is None else float(mjd_tai_from_jd_utc(jd, exposure_of(candidate.get("exptime"))))


def _host_separation(facts):
    """Of the nearest of the three catalogued sources that is rather a galaxy, or None."""
    pairs = [(facts[f"ps1_{n}_separation_arcsec"], facts[f"ps1_{n}_star_score"]) for n in (1, 2, 3)]
    near = [sep for sep, star in pairs if sep is not None and star is not None and star < GALAXY_BELOW_STAR_SCORE]
    return min(near, default=None)

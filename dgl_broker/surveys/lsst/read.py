"""Rubin/LSST packet -> `Alert`.

Fluxes come in nJy and times in MJD TAI at mid-exposure, as everywhere inside. `psfFlux` is the difference flux; its own sign
counts, since `isNegative` disagrees with it in one packet of seven.
"""

import math

import numpy as np

from dgl_broker.alert import BANDS, DETECTION, FORCED, Alert, Cutouts
from dgl_broker.errors import PacketError
from dgl_broker.photometry import AB_ZERO_POINT_NJY
from dgl_broker.surveys.history import Rows, brightest_magnitude, first_detection, merged
from dgl_broker.surveys.sky import sky_facts
from dgl_broker.surveys.values import column, exact_id, flag, integers, needed, number, number_above
from dgl_broker.wire.schema_tree import shown

PLAUSIBLE_MJD = (49718.0, 71800.0)  # 1995 to 2055; made-up packets of schema 7 hold seconds since 1970
SIGMA_TO_FWHM = 2.0 * math.sqrt(2.0 * math.log(2.0))
BAND_INDEX = {band: index for index, band in enumerate(BANDS)}

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


def read_alert(packet):
    """The `Alert` of an LSST packet; see `dgl_broker.surveys.read_alert`."""
    record = packet.record
    source = record["diaSource"]
    if source is None:
        raise PacketError("missing_field", "lsst: diaSource is null")
    alert_id = exact_id(source["diaSourceId"]) or exact_id(record.get("diaSourceId"))
    if alert_id is None:
        raise PacketError("inexact_id", f"lsst: diaSourceId {shown(source['diaSourceId'])}, expected an exact 64-bit id")
    name = f"lsst {alert_id}"
    mjd = needed(name, "midpointMjdTai", source["midpointMjdTai"], 0.0, 1e12, "d")
    ra = needed(name, "ra", source["ra"], 0.0, 360.0, "deg")
    dec = needed(name, "dec", source["dec"], -90.0, 90.0, "deg")
    if source["band"] not in BAND_INDEX:
        raise PacketError("bad_value", f"{name}: band {shown(source['band'])}, expected one of {' '.join(BANDS)}")
    flux = needed(name, "psfFlux", source["psfFlux"], -1e15, 1e15, "nJy")
    err = needed(name, "psfFluxErr", source["psfFluxErr"], 1e-6, 1e15, "nJy")
    curve, n_dropped = _light_curve(record, source, mjd)
    facts = leading_facts(record)
    stars = record["diaObject"] or {}
    stated = exact_id(stars.get("nDiaSources"))
    first = first_detection(number_above(stars.get("firstDiaSourceMjdTai"), 0.0), curve)
    facts.update({f"{b}_science_flux_mean_njy": number(stars.get(f"{b}_scienceFluxMean")) for b in BANDS})
    facts["n_detections"] = stated or curve.n_detections
    facts["days_since_first"] = mjd - first
    facts["brightest_magnitude"] = brightest_magnitude(curve)
    facts["rows_dropped"] = n_dropped
    return Alert(
        survey="lsst",
        schema=packet.schema,
        alert_id=alert_id,
        object_id=_object_id(source, stars),
        ra=ra,
        dec=dec,
        mjd_tai=mjd,
        band=source["band"],
        flux_njy=flux,
        flux_err_njy=err,
        reliability=facts["reliability"],
        is_solar_system=_is_solar_system(source),
        first_detection_mjd_tai=first,
        n_detections=max(stated or 0, curve.n_detections),
        light_curve=curve,
        cutouts=Cutouts(*(record.get(f"cutout{which}") or None for which in ("Science", "Template", "Difference"))),
        facts=facts,
    )


def _object_id(source, stars):
    """Id of the object as text, or None: `diaSource` says whether there is one, `diaObject` may hold it with more digits."""
    stated = source["diaObjectId"]
    if stated is None or stated == 0 or stated != stated:
        return None
    exact = exact_id(stated) or exact_id(stars.get("diaObjectId"))
    return None if exact is None else str(exact)


def _is_solar_system(source):
    """Whether the source belongs to a solar-system object; 0, null and NaN are none. An inexact id is one all the same."""
    return bool(number(source["ssObjectId"]))


def _light_curve(record, source, mjd):
    trigger = _rows([source], DETECTION, None)
    trigger.mjd_tai = np.array([mjd])
    processed = number(source.get("timeProcessedMjdTai"))
    history = Rows.joined(
        [
            _rows(record["prvDiaSources"], DETECTION, processed),
            _rows(record["prvDiaForcedSources"], FORCED, processed),
        ]
    )
    return merged(trigger, history)


def _rows(rows, kind, processed_mjd):
    """Histories as columns. What was processed later than the trigger was not known then: brokers add it to copies."""
    rows = [row for row in rows or () if row is not None]
    withdrawn = column(rows, "timeWithdrawnMjdTai")
    done = column(rows, "timeProcessedMjdTai")
    return Rows(
        mjd_tai=column(rows, "midpointMjdTai"),
        band=np.array([_band_index(row) for row in rows], np.int8),
        flux_njy=column(rows, "psfFlux"),
        flux_err_njy=column(rows, "psfFluxErr"),
        kind=np.full(len(rows), kind, np.int8),
        total_njy=column(rows, "scienceFlux"),
        total_err_njy=column(rows, "scienceFluxErr"),
        exposure=integers(rows, "visit"),
        detector=integers(rows, "detector"),
        allowed=~(withdrawn > 0),
        known=np.ones(len(rows), bool) if processed_mjd is None else ~(done > processed_mjd),
    )


def _band_index(row):
    band = row["band"]
    return BAND_INDEX.get(band, -1) if isinstance(band, str) else -1


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

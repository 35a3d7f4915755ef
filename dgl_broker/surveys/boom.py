"""Alerts as BOOM passes them on, to Babamul's streams or from a filter, in their survey's own spelling.

Facts from boom-astro/boom: src/utils/lightcurves.rs (zero points, an upper limit is five errors), src/alert/lsst.rs (jd is MJD
TAI + 2400000.5), src/filter (the schema `Alert`, bands such as "ztfg"), and from Babamul's client: fluxes are 1e9 times what
their zero point is for. History is cut to what the survey's own packets have, since that is what the networks know.
"""

import math

from dgl_broker.errors import PacketError
from dgl_broker.photometry import AB_ZERO_POINT_NJY
from dgl_broker.wire import packet_from_record

ZERO_POINT = {"ztf": 23.9, "lsst": 8.9}  # mag, of 1 uJy and of 1 Jy
FLUX_UNITS = 1e9
LSST_JD = 2400000.5
ERROR_OF_MAG = 2.5 / math.log(10.0)  # mag per relative error of flux, to first order
SIGMA_OF_LIMIT = 5.0
HISTORY_D = {"ztf": 30.0, "lsst": 365.0}  # ZTF: ztf-avro-alert, docs/schema.md; LSST: DPDD (LSE-163), section 3.5.1
SAME_D = 1e-6
ZTF_COUNT_MAG = 26.3  # mag of one count, as in ZTF's packets, in which -99999 counts stand for a fit that failed
FID = {"g": 1, "r": 2, "i": 3}
SURVEYS = {"ZTF": "ztf", "LSST": "lsst"}
LSST_FIELDS = (
    "ssObjectId", "scienceFlux", "scienceFluxErr", "templateFlux", "templateFluxErr", "reliability", "extendedness", "isDipole",
    "ixxPSF", "iyyPSF", "pixelFlags", "pixelFlags_injected", "timeProcessedMjdTai", "timeWithdrawnMjdTai",
)  # fmt: skip
CUTOUTS = ("cutoutScience", "cutoutTemplate", "cutoutDifference")


def packet_of_babamul(alert, cutouts=None):
    """An alert of Babamul's streams as a `Packet`.

    Parameters
    ----------
    alert : dict
        As Avro has it: `candidate` in the survey's own spelling, histories as fluxes.
    cutouts : dict, optional
        Name -> bytes, of the API; those within the alert where not given.

    Raises
    ------
    PacketError
        What it lacks.
    """
    return _guarded(_of_babamul, alert, cutouts)


def packet_of_boom(alert):
    """An alert that passed a filter of BOOM (its schema `Alert`) as a `Packet`.

    It holds position, fluxes and stamps, and nothing that the survey measured besides: no real-bogus score, no catalogued
    neighbours, of ZTF no zero point of the stamps.

    Raises
    ------
    PacketError
        What it lacks.
    """
    return _guarded(_of_boom, alert)


def _guarded(read, alert, *args):
    try:
        return read(alert, *args)
    except (KeyError, TypeError, AttributeError, ValueError, ArithmeticError) as error:  # arithmetic: of an infinite number
        reason = "bad_value" if isinstance(error, ArithmeticError) else "missing_field"
        raise PacketError(reason, f"{read.__name__[1:]}: {type(error).__name__} {error}") from error


def _of_babamul(alert, cutouts):
    candidate = alert["candidate"]
    survey = "ztf" if "magpsf" in candidate and "diaSourceId" not in _source_of(candidate) else "lsst"
    unit = _njy_per_unit(ZERO_POINT[survey])
    detections, limits, forced = (
        [_row(r["jd"], r["band"], r.get("psfFlux"), r.get("psfFluxErr"), unit) for r in alert.get(name) or ()]
        for name in ("prv_candidates", "prv_nondetections", "fp_hists")
    )
    stamps = {name: (cutouts or alert).get(name) for name in CUTOUTS}
    if survey == "lsst":
        return _lsst(_source_of(candidate), detections, forced, stamps, "babamul")
    sign = "t" if candidate.get("isdiffpos") in (True, "t", "1") else "f"
    return _ztf(alert, {**candidate, "isdiffpos": sign}, detections, limits, forced, stamps, "babamul")


def _of_boom(alert):
    survey = SURVEYS[alert["survey"]]
    rows = [r for r in alert["photometry"] if r["survey"] == alert["survey"]]
    units = [_njy_per_unit(r["zero_point"]) for r in rows]
    found = [(r["origin"], _row(r["jd"], r["band"], r["flux"], r["flux_err"], unit)) for r, unit in zip(rows, units)]
    detections = [row for origin, row in found if origin == "Alert" and row["flux"] is not None]
    limits = [row for origin, row in found if origin == "Alert" and row["flux"] is None]
    forced = [row for origin, row in found if origin == "ForcedPhot"]
    trigger = min(detections, key=lambda row: abs(row["jd"] - alert["jd"]), default=None)
    if trigger is None or abs(trigger["jd"] - alert["jd"]) > SAME_D:
        raise ValueError(f"{alert['candid']}: no flux at the alert's own time, JD {alert['jd']}")
    place = {"ra": alert["ra"], "dec": alert["dec"]}
    stamps = {name: alert.get(name) for name in CUTOUTS}
    if survey == "lsst":
        source = {**place, **_lsst_row(trigger), "diaSourceId": alert["candid"], "diaObjectId": _number(alert["objectId"])}
        return _lsst(source, detections, forced, stamps, "boom")
    programid = next((r["programid"] for r in rows if abs(r["jd"] - trigger["jd"]) <= SAME_D), None)
    until = [row["jd"] for row in detections if row["jd"] <= trigger["jd"] + SAME_D]
    candidate = {**place, **_ztf_row(trigger), "programid": programid, "ndethist": len(until), "jdstarthist": min(until)}
    return _ztf(alert, candidate, detections, limits, forced, stamps, "boom")


def _njy_per_unit(zero_point):
    return 10.0 ** (0.4 * (AB_ZERO_POINT_NJY - zero_point)) / FLUX_UNITS


def _row(jd, band, flux, error, njy_per_unit):
    """One point in nJy; `flux` None is an upper limit."""
    flux = None if flux is None else flux * njy_per_unit
    return {"jd": jd, "band": str(band)[-1:], "flux": flux, "error": None if error is None else error * njy_per_unit}


def _recent(rows, jd, days):
    """Rows of a packet's history: not the trigger's own, none later, none too old."""
    return [row for row in rows if SAME_D < jd - row["jd"] <= days]


def _ztf_row(row):
    """A detection as ZTF spells it."""
    size = abs(row["flux"])
    mag = None if size == 0 else AB_ZERO_POINT_NJY - 2.5 * math.log10(size)
    sigma = None if size == 0 or row["error"] is None else ERROR_OF_MAG * row["error"] / size
    sign = "t" if row["flux"] > 0 else "f"
    return {**_blank(row), "magpsf": mag, "sigmapsf": sigma, "isdiffpos": sign}


def _blank(row):
    """A row of ZTF's histories without what BOOM does not keep: the reference source under it."""
    names = ("magpsf", "sigmapsf", "isdiffpos", "diffmaglim", "distnr", "magnr", "sigmagnr")
    return {"jd": row["jd"], "fid": FID.get(row["band"], 0), **dict.fromkeys(names)}


def _ztf(alert, candidate, detections, limits, forced, stamps, form):
    jd, days = candidate["jd"], HISTORY_D["ztf"]
    history = [_ztf_row(row) for row in _recent(detections, jd, days) if row["flux"]]
    for row in _recent(limits, jd, days):
        if row["error"]:
            limit = AB_ZERO_POINT_NJY - 2.5 * math.log10(SIGMA_OF_LIMIT * row["error"])
            history.append({**_blank(row), "diffmaglim": limit})
    count_njy = 10.0 ** (0.4 * (AB_ZERO_POINT_NJY - ZTF_COUNT_MAG))
    measured = [
        {
            **_blank(row),
            "exptime": None,
            "forcediffimflux": row["flux"] / count_njy,
            "forcediffimfluxunc": None if row["error"] is None else row["error"] / count_njy,
            "magzpsci": ZTF_COUNT_MAG,
        }
        for row in _recent(forced, jd, days)
        if row["flux"] is not None
    ]
    packed = {name: {"stampData": value} if value else None for name, value in stamps.items()}
    return packet_from_record(
        "ztf",
        {
            "schemavsn": form,
            "objectId": alert["objectId"],
            "candid": alert["candid"],
            "candidate": {**candidate, "candid": alert["candid"]},
            "prv_candidates": sorted(history, key=lambda row: row["jd"]),
            "fp_hists": sorted(measured, key=lambda row: row["jd"]),
            **packed,
        },
    )


def _lsst_row(row):
    """A point as LSST spells it; its visit is its time, which all that knew the visit would agree on."""
    mjd = row["jd"] - LSST_JD
    return {
        "visit": round(mjd * 86400.0 * 10.0),
        "detector": 0,
        "midpointMjdTai": mjd,
        "band": row["band"],
        "psfFlux": row["flux"],
        "psfFluxErr": row["error"],
        **dict.fromkeys(("scienceFlux", "scienceFluxErr", "timeProcessedMjdTai", "timeWithdrawnMjdTai")),
    }


def _lsst(source, detections, forced, stamps, form):
    mjd, days = source["midpointMjdTai"], HISTORY_D["lsst"]
    earlier = [row for row in detections if row["jd"] - LSST_JD < mjd - SAME_D]
    own = {"visit": round(mjd * 86400.0 * 10.0), "detector": 0}  # as the histories, whose visits are not told
    object_id = source.get("diaObjectId")
    known = None
    if object_id:
        first = min((row["jd"] - LSST_JD for row in earlier), default=mjd)
        known = {"diaObjectId": object_id, "firstDiaSourceMjdTai": first, "nDiaSources": len(earlier) + 1}
    history = [_lsst_row(row) for row in _recent(detections, mjd + LSST_JD, days) if row["flux"] is not None]
    measured = [_lsst_row(row) for row in _recent(forced, mjd + LSST_JD, days) if row["flux"] is not None]
    record = {
        "diaSourceId": source["diaSourceId"],
        "diaSource": {**dict.fromkeys(LSST_FIELDS), **source, **own},
        "diaObject": known,
    }
    record |= {"prvDiaSources": history, "prvDiaForcedSources": measured, "lsst_schema_version": f"lsst.v{form}", **stamps}
    return packet_from_record("lsst", record)


def _source_of(candidate):
    return candidate.get("dia_source") or candidate.get("diaSource") or candidate


def _number(object_id):
    return int(object_id) if str(object_id).isdecimal() else None

"""Survey packets as BOOM keeps and passes them on, after its source (boom-astro/boom, src/alert, src/utils/lightcurves.rs).

Only one alert of Babamul and none of BOOM's `Alert` could be collected, so tests make theirs from real packets.
"""

import numpy as np

f32 = np.float32
ZTF_ZP, LSST_ZP, FACTOR = f32(23.9), f32(8.9), f32(1.0857362)
BAND = {1: "g", 2: "r", 3: "i"}
POSITIVE = ("t", "1", 1, True)
BOOM_ALERT = {
    "type": "record", "name": "Alert", "fields": [
        {"name": "candid", "type": "long"}, {"name": "objectId", "type": "string"},
        *({"name": n, "type": "double"} for n in ("jd", "ra", "dec")),
        {"name": "survey", "type": {"type": "enum", "name": "Survey", "symbols": ["ZTF", "LSST", "DECAM"]}},
        {"name": "filters", "type": {"type": "array", "items": {"type": "record", "name": "FilterResults", "fields": [
            {"name": "filter_id", "type": "string"}, {"name": "passed_at", "type": "double"},
            {"name": "annotations", "type": "string"}]}}},
        {"name": "classifications", "type": {"type": "array", "items": {"type": "record", "name": "Classification", "fields": [
            {"name": "classifier", "type": "string"}, {"name": "score", "type": "double"}]}}},
        {"name": "photometry", "type": {"type": "array", "items": {"type": "record", "name": "Photometry", "fields": [
            {"name": "jd", "type": "double"}, {"name": "flux", "type": ["null", "double"]},
            {"name": "flux_err", "type": "double"},
            {"name": "band", "type": "string"}, {"name": "zero_point", "type": "double"},
            {"name": "origin", "type": {"type": "enum", "name": "Origin", "symbols": ["Alert", "ForcedPhot"]}},
            {"name": "programid", "type": "int"}, {"name": "survey", "type": "Survey"},
            {"name": "ra", "type": ["null", "double"]}, {"name": "dec", "type": ["null", "double"]}]}}},
        *({"name": n, "type": "bytes"} for n in ("cutoutScience", "cutoutTemplate", "cutoutDifference")),
    ],
}  # fmt: skip


def _mag_flux(mag, sigma, positive):
    flux = f32(10.0) ** (f32(-0.4) * (f32(mag) - ZTF_ZP))
    error = f32(sigma) / FACTOR * flux
    return float(f32(flux * f32(1e9))) * (1 if positive else -1), float(f32(error * f32(1e9)))


def _ztf_rows(packet):
    candidate = packet["candidate"]
    detections, limits = [], []
    for row in [*(packet["prv_candidates"] or ()), candidate]:
        common = {"jd": row["jd"], "band": BAND[row["fid"]], "ra": row.get("ra"), "dec": row.get("dec")}
        if row.get("magpsf") is not None:
            flux, error = _mag_flux(row["magpsf"], row["sigmapsf"], row["isdiffpos"] in POSITIVE)
            detections.append({**common, "psfFlux": flux, "psfFluxErr": error})
        elif row.get("diffmaglim") is not None and row["diffmaglim"] > 0:
            error = f32(10.0) ** ((f32(row["diffmaglim"]) - ZTF_ZP) / f32(-2.5)) / f32(5.0)
            limits.append({"jd": row["jd"], "band": common["band"], "psfFluxErr": float(f32(error * f32(1e9)))})
    forced = []
    for row in packet.get("fp_hists") or ():
        if row["forcediffimflux"] is None or row["forcediffimflux"] <= -99998 or row["magzpsci"] is None:
            continue
        scale = 10.0 ** (0.4 * (float(ZTF_ZP) - row["magzpsci"])) * 1e9
        flux, error = row["forcediffimflux"] * scale, row["forcediffimfluxunc"] * scale
        forced.append({"jd": row["jd"], "band": BAND[row["fid"]], "psfFlux": flux, "psfFluxErr": error})
    return detections, limits, forced


def _lsst_rows(packet):
    def row(one):
        flux = None if one["psfFlux"] is None else float(one["psfFlux"])
        found = {"jd": one["midpointMjdTai"] + 2400000.5, "band": one["band"], "psfFlux": flux, "psfFluxErr": one["psfFluxErr"]}
        return {**found, "ra": one.get("ra"), "dec": one.get("dec")}

    detections = [row(one) for one in [*(packet.get("prvDiaSources") or ()), packet["diaSource"]]]
    return detections, [], [row(one) for one in packet.get("prvDiaForcedSources") or ()]


def babamul(survey, packet):
    """(alert as Babamul's streams have it, cutouts by name) of a survey's packet, both dicts."""
    detections, limits, forced = _ztf_rows(packet) if survey == "ztf" else _lsst_rows(packet)
    alert = {"prv_candidates": detections, "prv_nondetections": limits, "fp_hists": forced}
    if survey == "ztf":
        candidate = {**packet["candidate"], "isdiffpos": packet["candidate"]["isdiffpos"] in POSITIVE}
        for lost in ("xpos", "ypos", "objectidps1", "pdiffimfilename"):
            candidate.pop(lost, None)
        alert |= {"candid": candidate["candid"], "objectId": packet["objectId"], "candidate": candidate}
        cutouts = {n: (packet[n] or {}).get("stampData") for n in ("cutoutScience", "cutoutTemplate", "cutoutDifference")}
        return alert, cutouts
    source = dict(packet["diaSource"])
    alert |= {"candid": source["diaSourceId"], "objectId": str(source["diaObjectId"] or ""), "candidate": source}
    return alert, {n: packet.get(n) for n in ("cutoutScience", "cutoutTemplate", "cutoutDifference")}


def boom(survey, packet):
    """An alert that passed one of BOOM's filters, by its schema `Alert`."""
    alert, cutouts = babamul(survey, packet)
    name, zero_point = survey.upper(), float(ZTF_ZP if survey == "ztf" else LSST_ZP)
    trigger = packet["candidate"] if survey == "ztf" else packet["diaSource"]

    def rows(found, origin):
        for row in found:
            yield {
                "jd": row["jd"], "flux": row.get("psfFlux"), "flux_err": row["psfFluxErr"], "band": survey + row["band"],
                "zero_point": zero_point, "origin": origin, "programid": 1, "survey": name, "ra": None, "dec": None,
            }  # fmt: skip

    photometry = [*rows(alert["prv_candidates"], "Alert"), *rows(alert["prv_nondetections"], "Alert")]
    photometry += rows(alert["fp_hists"], "ForcedPhot")
    jd = trigger["jd"] if survey == "ztf" else trigger["midpointMjdTai"] + 2400000.5
    filters = [{"filter_id": "f", "passed_at": 1.8e9, "annotations": "{}"}]
    place = {"candid": alert["candid"], "objectId": alert["objectId"], "jd": jd, "ra": trigger["ra"], "dec": trigger["dec"]}
    stamps = {n: v or b"" for n, v in cutouts.items()}
    return {**place, "survey": name, "filters": filters, "classifications": [], "photometry": photometry, **stamps}

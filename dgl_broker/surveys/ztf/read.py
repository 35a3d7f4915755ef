"""ZTF packet -> `Alert`.

Times come as JD UTC at the start of an exposure, difference fluxes as the magnitude of their absolute value with a sign
beside it, forced photometry in counts. All become nJy and MJD TAI at mid-exposure.
"""

import math

from dgl_broker.alert import Alert, Cutouts
from dgl_broker.errors import PacketError
from dgl_broker.photometry import njy_of_count
from dgl_broker.surveys.head import AlertHead
from dgl_broker.surveys.history import brightest_magnitude, first_detection
from dgl_broker.surveys.values import exact_id, needed, number_above
from dgl_broker.surveys.ztf.facts import leading_facts, stated_first
from dgl_broker.surveys.ztf.history import BAND_OF_FID, MAGNITUDES, PIXEL_SCALE_ARCSEC, sign
from dgl_broker.wire.schema_tree import shown

STAMP_SIDE = 63  # Masci et al. 2019, PASP 131, 018003, section 6
JD = (2457754.5, 2488070.5)  # 2017, before first light, to 2100
# A known asteroid this near is the source (Fink's criterion for its solar-system stream, fink-science `roid` = 3).
SOLAR_SYSTEM_RADIUS_ARCSEC = 5.0


TRIGGER = "candidate"


def read_head(record, schema):
    """The `AlertHead` of a packet's leading fields; see `dgl_broker.surveys.read_head`."""
    candidate = record[TRIGGER]
    if candidate is None:
        raise PacketError("missing_field", f"{schema}: {TRIGGER} is null")
    alert_id = exact_id(candidate["candid"]) or exact_id(record.get("candid"))
    if alert_id is None:
        raise PacketError("inexact_id", f"{schema}: candid {shown(candidate['candid'])}, expected an exact 64-bit id")
    name = f"ztf {alert_id}"
    needed(name, "jd", candidate["jd"], *JD, "d")
    ra = needed(name, "ra", candidate["ra"], 0.0, 360.0, "deg")
    dec = needed(name, "dec", candidate["dec"], -90.0, 90.0, "deg")
    if candidate["fid"] not in BAND_OF_FID:
        raise PacketError("bad_value", f"{name}: fid {shown(candidate['fid'])}, expected 1 (g), 2 (r) or 3 (i)")
    needed(name, "magpsf", candidate["magpsf"], *MAGNITUDES, "mag")
    needed(name, "sigmapsf", candidate["sigmapsf"], 1e-6, 100.0, "mag")
    if sign(candidate["isdiffpos"]) == 0.0:
        raise PacketError("bad_value", f"{name}: isdiffpos {shown(candidate['isdiffpos'])}, expected t, f, 1 or 0")
    facts = leading_facts(record)
    separation = facts.get("solar_system_separation_arcsec")
    return AlertHead(
        survey="ztf",
        schema=schema,
        alert_id=alert_id,
        object_id=record["objectId"] or None,
        ra=ra,
        dec=dec,
        mjd_tai=facts["mjd_tai"],
        band=facts["band"],
        is_solar_system=separation is not None and separation < SOLAR_SYSTEM_RADIUS_ARCSEC,
        facts=facts,
    )


def alert_of(record, head, curve, n_dropped):
    """The `Alert` of a packet's fields, its head and its light curve; see `dgl_broker.surveys.read_alerts`."""
    candidate, facts = record[TRIGGER], head.facts
    first = first_detection(stated_first(candidate), curve)
    stated = exact_id(candidate.get("ndethist")) or 0
    facts.setdefault("n_detections", curve.n_detections)
    facts["days_since_first"] = head.mjd_tai - first
    facts["brightest_magnitude"] = brightest_magnitude(curve)
    facts["rows_dropped"] = n_dropped
    return Alert(
        survey="ztf",
        schema=head.schema,
        alert_id=head.alert_id,
        object_id=head.object_id,
        ra=head.ra,
        dec=head.dec,
        mjd_tai=head.mjd_tai,
        band=head.band,
        flux_njy=float(curve.flux_njy[-1]),
        flux_err_njy=float(curve.flux_err_njy[-1]),
        reliability=facts.get("reliability"),
        is_solar_system=head.is_solar_system,
        first_detection_mjd_tai=first,
        n_detections=max(stated, curve.n_detections),
        light_curve=curve,
        cutouts=_cutouts(record, candidate),
        facts=facts,
    )


def _cutouts(record, candidate):
    stamps = [(record.get(f"cutout{which}") or {}).get("stampData") or None for which in ("Science", "Template", "Difference")]
    zero_point = number_above(candidate.get("magzpsci"), 0.0)
    scale = math.nan if zero_point is None else float(njy_of_count(zero_point))
    x, y = number_above(candidate.get("xpos"), 0.0), number_above(candidate.get("ypos"), 0.0)
    return Cutouts(
        *stamps,
        # The template has a zero point of its own, which the packet does not hold. The difference stamp of a negative
        # subtraction is stored with its sign flipped: all 33 in the real packets collected are bright on their centre.
        to_njy=(scale, math.nan, scale * sign(candidate["isdiffpos"])),
        pixel_scale_arcsec=PIXEL_SCALE_ARCSEC,
        full_side=STAMP_SIDE,
        detector_xy=None if x is None or y is None else (x, y),
    )

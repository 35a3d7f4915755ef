"""Rubin/LSST packet -> `Alert`.

Fluxes come in nJy and times in MJD TAI at mid-exposure, as everywhere inside. `psfFlux` is the difference flux; its own sign
counts, since `isNegative` disagrees with it in one packet of seven.
"""

import numpy as np

from dgl_broker.alert import BANDS, DETECTION, FORCED, Alert, Cutouts
from dgl_broker.errors import PacketError
from dgl_broker.surveys.head import AlertHead
from dgl_broker.surveys.history import Rows, brightest_magnitude, first_detection, light_curves, owners
from dgl_broker.surveys.lsst.facts import host_redshift, leading_facts
from dgl_broker.surveys.values import columns, exact_id, integers, meanings, needed, number, number_above, present
from dgl_broker.wire.histories import end_to_end
from dgl_broker.wire.schema_tree import shown

TRIGGER = "diaSource"
BAND_INDEX = {band: index for index, band in enumerate(BANDS)}
NUMBERS = ("midpointMjdTai", "psfFlux", "psfFluxErr", "scienceFlux", "scienceFluxErr")
TIMES = ("timeWithdrawnMjdTai", "timeProcessedMjdTai")
EXPOSURE = ("visit", "detector")


def read_head(record, schema):
    """The `AlertHead` of a packet's leading fields; see `dgl_broker.surveys.read_head`."""
    source = record[TRIGGER]
    if source is None:
        raise PacketError("missing_field", f"{schema}: {TRIGGER} is null")
    alert_id = exact_id(source["diaSourceId"]) or exact_id(record.get("diaSourceId"))
    if alert_id is None:
        raise PacketError("inexact_id", f"{schema}: diaSourceId {shown(source['diaSourceId'])}, expected an exact 64-bit id")
    name = f"lsst {alert_id}"
    mjd = needed(name, "midpointMjdTai", source["midpointMjdTai"], 0.0, 1e12, "d")
    ra = needed(name, "ra", source["ra"], 0.0, 360.0, "deg")
    dec = needed(name, "dec", source["dec"], -90.0, 90.0, "deg")
    if source["band"] not in BAND_INDEX:
        raise PacketError("bad_value", f"{name}: band {shown(source['band'])}, expected one of {' '.join(BANDS)}")
    needed(name, "psfFlux", source["psfFlux"], -1e15, 1e15, "nJy")
    needed(name, "psfFluxErr", source["psfFluxErr"], 1e-6, 1e15, "nJy")
    return AlertHead(
        survey="lsst",
        schema=schema,
        alert_id=alert_id,
        object_id=_object_id(source, record.get("diaObject") or {}),
        ra=ra,
        dec=dec,
        mjd_tai=mjd,
        band=source["band"],
        is_solar_system=_is_solar_system(source),
        facts=leading_facts(record),
    )


def alert_of(record, head, curve, n_dropped):
    """The `Alert` of a packet's fields, its head and its light curve; see `dgl_broker.surveys.read_alerts`."""
    source, facts, dia_object = record[TRIGGER], head.facts, record["diaObject"] or {}
    stated = exact_id(dia_object.get("nDiaSources"))
    first = first_detection(number_above(dia_object.get("firstDiaSourceMjdTai"), 0.0), curve)
    facts.update({f"{b}_science_flux_mean_njy": number(dia_object.get(f"{b}_scienceFluxMean")) for b in BANDS})
    facts["n_detections"] = stated or curve.n_detections
    facts["days_since_first"] = head.mjd_tai - first
    facts["brightest_magnitude"] = brightest_magnitude(curve)
    facts["rows_dropped"] = n_dropped
    facts["host_redshift"] = host_redshift(record)
    return Alert(
        survey="lsst",
        schema=head.schema,
        alert_id=head.alert_id,
        object_id=head.object_id,
        ra=head.ra,
        dec=head.dec,
        mjd_tai=head.mjd_tai,
        band=head.band,
        flux_njy=float(source["psfFlux"]),
        flux_err_njy=float(source["psfFluxErr"]),
        reliability=facts.get("reliability"),
        is_solar_system=head.is_solar_system,
        first_detection_mjd_tai=first,
        n_detections=max(stated or 0, curve.n_detections),
        light_curve=curve,
        cutouts=Cutouts(*(record.get(f"cutout{which}") or None for which in ("Science", "Template", "Difference"))),
        facts=facts,
    )


def _object_id(source, dia_object):
    """Id of the object as text, or None: `diaSource` says whether there is one, `diaObject` may hold it with more digits."""
    stated = source["diaObjectId"]
    if stated is None or stated == 0 or stated != stated:
        return None
    exact = exact_id(stated) or exact_id(dia_object.get("diaObjectId"))
    return None if exact is None else str(exact)


def _is_solar_system(source):
    """Whether the source belongs to a solar-system object; 0, null and NaN are none. An inexact id is one all the same."""
    return bool(number(source["ssObjectId"]))


def read_curves(records):
    """(LightCurve, rows dropped) of each of many packets whose triggers are known to be usable."""
    sources = [record[TRIGGER] for record in records]
    detected = [present(record["prvDiaSources"]) for record in records]
    forced = [present(record["prvDiaForcedSources"]) for record in records]
    numbers = columns([sources], NUMBERS + TIMES)
    processed = numbers[-1]
    earlier = end_to_end([*detected, *forced])
    rows = columns(earlier, NUMBERS + TIMES)
    withdrawn, done = rows[len(NUMBERS) :]
    owner = np.concatenate([owners(detected), owners(forced)])
    n_detected = sum(map(len, detected))
    kinds = np.repeat([DETECTION, FORCED], [n_detected, len(owner) - n_detected])
    history = Rows(
        numbers=rows[: len(NUMBERS)],
        labels=_labels(earlier, kinds),
        owner=owner,
        allowed=~(withdrawn > 0),
        # What was processed later than the trigger was not known then: brokers add it to copies.
        counts=~(done > processed[owner]),
    )
    return light_curves(numbers[: len(NUMBERS)], _labels([sources], np.full(len(sources), DETECTION)), history)


def _labels(histories, kinds):
    bands = meanings(histories, "band", _band_index, np.int64)
    return np.concatenate([[bands, kinds], integers(histories, EXPOSURE)])


def _band_index(band):
    return BAND_INDEX.get(band, -1) if isinstance(band, str) else -1

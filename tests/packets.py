"""Packets made by hand for tests of reading: official names and types, only the fields that matter."""

import io
from pathlib import Path

import fastavro

from dgl_broker.wire import encode_container

DATA = Path(__file__).parent / "data" / "alerts"
NIGHT_JD = 2460000.75  # 2023-02-25 06:00 UTC
NIGHT_MJD = 61000.3


def null(kind):
    return ["null", kind]


def record(name, **fields):
    return {"type": "record", "name": name, "fields": [{"name": k, "type": v} for k, v in fields.items()]}


def nullable_array(row):
    return null({"type": "array", "items": row})


_DOUBLE, _FLOAT, _LONG, _INT, _TEXT, _BOOL = map(null, ("double", "float", "long", "int", "string", "boolean"))

ZTF_SCHEMA = {
    **record(
        "alert",
        schemavsn="string",
        publisher="string",
        objectId="string",
        candid="long",
        candidate=record(
            "candidate", jd="double", fid="int", diffmaglim=_FLOAT, programid="int", candid="long", isdiffpos="string",
            ra="double", dec="double", magpsf="float", sigmapsf="float", distnr=_FLOAT, magnr=_FLOAT, sigmagnr=_FLOAT,
            fwhm=_FLOAT, nbad=_INT, rb=_FLOAT,
            ssdistnr=_FLOAT, ssnamenr=_TEXT, sgmag1=_FLOAT, srmag1=_FLOAT, simag1=_FLOAT, szmag1=_FLOAT,
            sgscore1=_FLOAT, distpsnr1=_FLOAT, ndethist="int", jdstarthist=_DOUBLE, sgscore2=_FLOAT, distpsnr2=_FLOAT,
            sgscore3=_FLOAT, distpsnr3=_FLOAT, magzpsci=_FLOAT, exptime=_FLOAT, drb=_FLOAT,
        ),
        prv_candidates=nullable_array(
            record(
                "prv_candidate", jd="double", fid="int", diffmaglim=_FLOAT, candid=_LONG, isdiffpos=_TEXT, ra=_DOUBLE,
                dec=_DOUBLE, magpsf=_FLOAT, sigmapsf=_FLOAT, distnr=_FLOAT, magnr=_FLOAT, sigmagnr=_FLOAT,
            )
        ),
        fp_hists=nullable_array(
            record(
                "fp_hist", fid="int", magzpsci=_FLOAT, exptime=_FLOAT, jd="double", forcediffimflux=_FLOAT,
                forcediffimfluxunc=_FLOAT, procstatus=_TEXT, distnr=_FLOAT, magnr=_FLOAT, sigmagnr=_FLOAT,
            )
        ),
        cutoutScience=null(record("cutout", fileName="string", stampData="bytes")),
        cutoutTemplate=null("cutout"),
        cutoutDifference=null("cutout"),
    ),
    "namespace": "ztf",
}  # fmt: skip

_SOURCE = {
    "diaSourceId": "long", "visit": "long", "detector": "int", "diaObjectId": _LONG, "ssObjectId": _LONG,
    "midpointMjdTai": "double", "ra": "double", "dec": "double", "snr": _FLOAT, "psfFlux": _FLOAT, "psfFluxErr": _FLOAT,
    "scienceFlux": _FLOAT, "scienceFluxErr": _FLOAT, "isNegative": _BOOL, "templateFlux": _FLOAT, "templateFluxErr": _FLOAT,
    "ixxPSF": _FLOAT, "iyyPSF": _FLOAT, "extendedness": _FLOAT, "reliability": _FLOAT, "band": _TEXT, "isDipole": _BOOL,
    "timeProcessedMjdTai": "double", "timeWithdrawnMjdTai": _DOUBLE, "pixelFlags": _BOOL, "pixelFlags_injected": _BOOL,
}  # fmt: skip
LSST_SCHEMA = {
    **record(
        "alert",
        diaSourceId="long",
        observation_reason=_TEXT,
        diaSource=record("diaSource", **_SOURCE),
        prvDiaSources=nullable_array("diaSource"),
        prvDiaForcedSources=nullable_array(
            record(
                "diaForcedSource", diaForcedSourceId="long", diaObjectId="long", ra="double", dec="double", visit="long",
                detector="int", psfFlux=_FLOAT, psfFluxErr=_FLOAT, midpointMjdTai="double", scienceFlux=_FLOAT,
                scienceFluxErr=_FLOAT, band=_TEXT, timeProcessedMjdTai="double", timeWithdrawnMjdTai=_DOUBLE,
            )
        ),
        diaObject=null(
            record(
                "diaObject", diaObjectId="long", firstDiaSourceMjdTai=_DOUBLE, nDiaSources="int",
                **{f"{b}_scienceFluxMean": _FLOAT for b in "ugrizy"},
            )
        ),
        cutoutDifference=null("bytes"),
        cutoutScience=null("bytes"),
        cutoutTemplate=null("bytes"),
    ),
    "namespace": "lsst.v10_0",
}  # fmt: skip


def blank(schema):
    """A record of a schema with null wherever that is allowed."""
    zero = {"string": "", "bytes": b"", "long": 0, "int": 0, "double": 0.0, "float": 0.0, "boolean": False}
    return {f["name"]: None if isinstance(f["type"], list) else zero[f["type"]] for f in schema["fields"]}


def field_type(schema, name):
    """Type of a field; of a nullable array, its row's."""
    kind = next(f["type"] for f in schema["fields"] if f["name"] == name)
    kind = kind[1] if isinstance(kind, list) else kind
    return kind["items"] if isinstance(kind, dict) and kind["type"] == "array" else kind


def ztf_row(days, mag=19.0, fid=1, sign="t", **changes):
    """A detection `days` after the trigger's exposure."""
    row = blank(field_type(ZTF_SCHEMA, "prv_candidates"))
    row |= {
        "jd": NIGHT_JD + days,
        "fid": fid,
        "candid": 1000,
        "isdiffpos": sign,
        "magpsf": mag,
        "sigmapsf": 0.1,
        "diffmaglim": 20.5,
    }
    return row | changes


def ztf_limit(days, limit=20.5, fid=1):
    """An upper limit."""
    return ztf_row(days, None, fid, None, sigmapsf=None, candid=None, diffmaglim=limit)


def ztf_forced(days, counts=1000.0, fid=1, **changes):
    """A forced point of zero point 26.3."""
    row = blank(field_type(ZTF_SCHEMA, "fp_hists"))
    row |= {"jd": NIGHT_JD + days, "fid": fid, "magzpsci": 26.3, "exptime": 30.0, "forcediffimflux": counts}
    return row | {"forcediffimfluxunc": 50.0, "procstatus": "0"} | changes


def ztf_record(prv=(), forced=(), top=None, **candidate):
    """A ZTF packet: a 19 mag detection in g; keyword arguments change the candidate."""
    trigger = blank(field_type(ZTF_SCHEMA, "candidate"))
    trigger |= {"jd": NIGHT_JD, "fid": 1, "candid": 2**61 + 1, "isdiffpos": "t", "ra": 150.0, "dec": 2.2, "magpsf": 19.0}
    trigger |= {
        "sigmapsf": 0.1,
        "programid": 1,
        "ndethist": 3,
        "jdstarthist": NIGHT_JD - 10.0,
        "magzpsci": 26.3,
        "drb": 0.9,
        "rb": 0.5,
    }
    stamp = {"fileName": "stamp.fits.gz", "stampData": b"not opened here"}
    packet = {
        "schemavsn": "4.02", "publisher": "by hand", "objectId": "ZTF23aaaaaaa", "candid": 2**61 + 1,
        "candidate": trigger | candidate, "prv_candidates": list(prv), "fp_hists": list(forced), "cutoutScience": stamp,
        "cutoutTemplate": stamp, "cutoutDifference": stamp,
    }  # fmt: skip
    return packet | (top or {})


def lsst_source(days=0.0, visit=100, flux=1000.0, band="r", **changes):
    """A diaSource `days` after the trigger."""
    row = blank({"fields": [{"name": k, "type": v} for k, v in _SOURCE.items()]})
    row |= {"diaSourceId": 7000 + visit, "visit": visit, "detector": 5, "diaObjectId": 2**60 + 9, "ra": 150.0, "dec": 2.2}
    row |= {"midpointMjdTai": NIGHT_MJD + days, "psfFlux": flux, "psfFluxErr": 50.0, "band": band}
    row |= {"timeProcessedMjdTai": NIGHT_MJD + days + 0.002}
    return row | changes


def lsst_forced(days, visit, flux=900.0, band="r", **changes):
    """A diaForcedSource."""
    row = blank(field_type(LSST_SCHEMA, "prvDiaForcedSources"))
    row |= {
        "visit": visit,
        "detector": 5,
        "midpointMjdTai": NIGHT_MJD + days,
        "psfFlux": flux,
        "psfFluxErr": 60.0,
        "band": band,
    }
    row |= {"timeProcessedMjdTai": NIGHT_MJD + days + 0.002}
    return row | changes


def lsst_object(**changes):
    """A diaObject."""
    row = blank(field_type(LSST_SCHEMA, "diaObject"))
    return row | {"diaObjectId": 2**60 + 9, "firstDiaSourceMjdTai": NIGHT_MJD - 20.0, "nDiaSources": 4} | changes


def lsst_record(prv=None, forced=(), dia_object=None, top=None, **source):
    """An LSST packet: a 1000 nJy detection in r; keyword arguments change the diaSource."""
    trigger = lsst_source(diaSourceId=2**60 + 1) | source
    packet = {
        "diaSourceId": 2**60 + 1, "observation_reason": "science", "diaSource": trigger, "prvDiaSources": prv,
        "prvDiaForcedSources": list(forced), "diaObject": lsst_object() if dia_object is None else dia_object,
        "cutoutDifference": b"difference", "cutoutScience": b"science", "cutoutTemplate": b"template",
    }  # fmt: skip
    return packet | (top or {})


def ztf_message(packet=None):
    """A ZTF packet as Kafka brings it."""
    return encode_container(ZTF_SCHEMA, packet or ztf_record())


def lsst_message(packet=None, number=1000):
    """An LSST packet as Kafka brings it."""
    body = io.BytesIO()
    fastavro.schemaless_writer(body, LSST_SCHEMA, packet or lsst_record())
    return b"\x00" + number.to_bytes(4, "big") + body.getvalue()


class Schemas:
    """A source of one schema, counting what it is asked."""

    def __init__(self, **schema_of_id):
        from dgl_broker.wire.writer_schema import WriterSchema

        given = {int(k.removeprefix("id")): v for k, v in schema_of_id.items()} or {1000: LSST_SCHEMA}
        self._schemas = {number: WriterSchema(schema, schema_id=number) for number, schema in given.items()}
        self.asked = []

    def writer_schema(self, number):
        from dgl_broker.errors import PacketError

        self.asked.append(number)
        if number not in self._schemas:
            raise PacketError("unknown_schema", f"schema id {number}")
        return self._schemas[number]

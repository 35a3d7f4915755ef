"""The packets that mutations start from: small ones by hand, those of our own writers, and real ones.

The same bytes in every process. Most are small, so that a run of many costs seconds; each of them can be scored as it is.
"""

import random
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import packets as made

from dgl_broker import wire
from dgl_broker.data_files import folder
from dgl_broker.errors import PacketError
from dgl_broker.surveys import fits_write
from dgl_broker.surveys.avro_parts import records_of
from dgl_broker.surveys.lsst import write as lsst_write
from dgl_broker.surveys.ztf import write as ztf_write
from dgl_broker.wire.writer_schema import WriterSchema
from fuzz.forms import SMALL_ID, packet

CODECS = ("null", "deflate", "snappy", "zstandard")
STAMPS = ("Science", "Template", "Difference")
MATRIX = ((-0.2 / 3600, 0.0), (0.0, 0.2 / 3600))  # degrees east and north of a step along x and y


@dataclass(frozen=True, eq=False)
class Seed:
    """A sane packet. `record` is given where it can be taken apart and put together anew, `codec` where in a container."""

    name: str
    survey: str
    value: bytes
    record: dict | None = None
    codec: str | None = None
    is_real: bool = False


def pixels(side, flux, sigma=1.7, noise=6.0, seed=11, at=None):
    """A point source on noise, in steps of 2 so that it compresses; (side, side) float32."""
    rng = random.Random(seed)
    centre = (side - 1) // 2 if at is None else at
    y, x = np.mgrid[:side, :side]
    source = flux / (2 * np.pi * sigma**2) * np.exp(-0.5 * ((x - centre) ** 2 + (y - centre) ** 2) / sigma**2)
    grain = np.array([rng.gauss(0.0, noise) for _ in range(side * side)]).reshape(side, side)
    return (np.round((source + grain) / 2.0) * 2.0).astype(np.float32)


@cache
def lsst_stamp(which="difference", side=30):
    """A primary plane of an LSST stamp, north up, the source on its CRPIX."""
    image = pixels(side, {"difference": 4000.0}.get(which, 9000.0), seed=len(which))
    place = (side - 1) // 2 + 1.0
    head = lsst_write.stamp_header(side, side, (100, 200), (place, place), MATRIX, (150.0, 2.2), 12.0)
    return head + fits_write.data(image, ">f4")


@cache
def ztf_stamp(which="difference", side=63):
    """A gzipped ZTF stamp."""
    return ztf_write.cutout(pixels(side, {"difference": 4000.0}.get(which, 9000.0), 1.0, 3.0, seed=len(which)))


def lsst_record(n_sources=1, n_forced=3, **changes):
    """A small LSST record with stamps; it is scored as it is."""
    prv = [made.lsst_source(-2.0 * (i + 1), 90 - i, 700.0 + i, "gri"[i % 3], diaSourceId=50 + i) for i in range(n_sources)]
    forced = [made.lsst_forced(-1.5 * (i + 1), 95 - i, 600.0 - i, "gri"[i % 3]) for i in range(n_forced)]
    stamps = {f"cutout{w.title()}": lsst_stamp(w) for w in ("difference", "template")} | {"cutoutScience": None}
    source = {"scienceFlux": 3000.0, "templateFlux": 2000.0, "reliability": 0.7, "snr": 20.0}
    return made.lsst_record(prv, forced, top=stamps | changes, **source)


def ztf_record(n_rows=2, n_forced=2, **changes):
    """A small ZTF record with stamps; it is scored as it is."""
    prv = [made.ztf_row(-3.0 * (i + 1), 19.5 + 0.1 * i, 1 + i % 2) for i in range(n_rows)] + [made.ztf_limit(-1.0)]
    forced = [made.ztf_forced(-1.0 - i, 900.0 + i, 1 + i % 2) for i in range(n_forced)]
    stamps = {f"cutout{w.title()}": {"fileName": "s.fits.gz", "stampData": ztf_stamp(w)} for w in ("difference", "template")}
    return made.ztf_record(prv, forced, stamps | {"cutoutScience": None} | changes, sgscore1=0.1, distpsnr1=0.7, magnr=20.0)


def _small():
    lsst, ztf = lsst_record(), ztf_record()
    bare = lsst_record(0, 0, prvDiaSources=None, diaObject=None, cutoutTemplate=None)
    yield _by_hand("lsst_small", "lsst", lsst)
    yield _by_hand("lsst_long", "lsst", lsst_record(20, 40))
    yield _by_hand("lsst_first", "lsst", bare)
    yield _by_hand("lsst_container", "lsst", lsst, "null")
    for codec in CODECS:
        yield _by_hand(f"ztf_{codec}", "ztf", ztf, codec)


def _by_hand(name, survey, record, codec=None):
    return Seed(name, survey, packet(survey, record, codec), record, codec)


def _written():
    """Packets of the project's own writers, with every field of the surveys' schemas that these write."""
    for version in lsst_write.VERSIONS:
        writer = lsst_write.lsst_writer(version)

        def part(kind, record, writer=writer):
            return writer.part(kind, _filled(writer.schema, kind, record))

        rows = [part("diaSource", lsst_write.dia_source(**made.lsst_source(-2.0 * i, 100 - i))) for i in range(3)]
        forced = [part("diaForcedSource", made.lsst_forced(-1.5 * i, 95 - i)) for i in range(1, 4)]
        summary = lsst_write.ObjectSummary(as_v10=version == "10.0").add(made.NIGHT_MJD, "r", 1000.0, 50.0, 3000.0, 60.0)
        dia_object = part("diaObject", summary | {"diaObjectId": 2**60 + 9})
        stamps = (lsst_stamp("difference"), None, lsst_stamp("template"))
        value = writer.packet(2**60 + 1, rows[0], rows[1:], forced, dia_object, None, stamps)
        yield Seed(f"lsst_written_{version}", "lsst", value)
    writer, record = ztf_write.ztf_writer(), ztf_record()

    def ztf_part(kind, row):
        return writer.part(kind, _filled(writer.schema, kind, row))

    stamps = [(c["fileName"], c["stampData"]) if c else None for c in (record[f"cutout{w}"] for w in STAMPS)]
    candidate = ztf_part("candidate", record["candidate"])
    histories = [[ztf_part(kind, row) for row in record[f"{kind}s"]] for kind in ("prv_candidate", "fp_hist")]
    yield Seed(
        "ztf_written", "ztf", writer.container([writer.record("ZTF23aaaaaaa", 2**61 + 1, candidate, *histories, stamps)])
    )


def _filled(schema, kind, record):
    """A sub-record with zero for what the schema wants and the record lacks."""
    part = next(part for name, part in records_of(schema) if name.rpartition(".")[2] == kind)
    return {**made.blank(part), **{name: value for name, value in record.items() if value is not None}}


def _real():
    for file in sorted(made.DATA.glob("*.avro")):
        value = file.read_bytes()
        survey = "ztf" if b'"candid"' in value[:60_000] else "lsst"
        if len(value) < 200_000:  # the file of several is no message
            yield Seed(f"real_{file.stem[:24]}", survey, value, is_real=True)


@cache
def seeds():
    """All seeds: small, written by the project, real."""
    return (*_small(), *_written(), *_real())


class Schemas:
    """Writer schemas by id: the hand-made one, those of our own writers, Rubin's where `lsst-alert-packet` is installed."""

    def __init__(self):
        self._small = WriterSchema(made.LSST_SCHEMA, schema_id=SMALL_ID)
        self._folders = [wire.FolderSchemas(folder("schemas") / "write")]
        try:
            import lsst.alert.packet as official
        except ImportError:
            return
        self._folders.append(wire.FolderSchemas(Path(official.__file__).parent / "schema"))

    def writer_schema(self, number):
        """The `WriterSchema` of an id; `unknown_schema` as every source has it."""
        if number == SMALL_ID:
            return self._small
        for one in self._folders:
            if number in one.ids():
                return one.writer_schema(number)
        raise PacketError("unknown_schema", f"schema id {number}: not among those of the seeds")

"""Simulated ZTF observations as alert packets: Avro object containers of one record, in the fields of schema 4.02.

Our schema file (`schemas/write/ztf.v4_02.avsc`) has ZTF's names, types and order. A packet is put together from parts that are
encoded once: earlier detections, upper limits and forced photometry recur in every later alert of an object.
"""

import hashlib
import json
from functools import lru_cache
from io import BytesIO

import fastavro
import numpy as np

from dgl_broker.data_files import schema_path
from dgl_broker.surveys import fits_write
from dgl_broker.surveys.avro_parts import array_of, bytes_of, long_of, records_of

VERSION = "4.02"
PUBLISHER = "ZTF (www.ztf.caltech.edu)"
PROGRAM = {"programpi": "Kulkarni", "programid": 1}
NO_VALUE = -999.0  # what ZTF writes where there is no such neighbour
NO_FORCED = -99999.0  # what forced photometry holds where it failed
SPELLINGS = {True: ("t", "1"), False: ("f", "0")}  # of isdiffpos; the second of each in one row of 25 of real histories
STAMP_SIDE = 63


class ZtfWriter:
    """Encodes the parts of ZTF alert packets, and puts them together."""

    def __init__(self):
        with open(schema_path("write/ztf.v4_02.avsc"), encoding="utf-8") as file:
            plain = json.load(file)
        self.schema = fastavro.parse_schema(plain)
        self._parts = dict(records_of(self.schema))
        text = json.dumps(plain).encode()
        # A fixed marker: it need only differ from what stands in the records, and equal alerts are to give equal bytes.
        self.sync = hashlib.md5(text, usedforsecurity=False).digest()
        metadata = long_of(2) + b"".join(
            bytes_of(key) + bytes_of(value) for key, value in ((b"avro.codec", b"null"), (b"avro.schema", text))
        )
        self.header = b"Obj\x01" + metadata + b"\0" + self.sync
        self._fixed = bytes_of(VERSION.encode()) + bytes_of(PUBLISHER.encode())
        branches = {f["name"]: f["type"] for f in self.schema["fields"] if isinstance(f["type"], list)}
        self._null = {name: long_of(t.index("null")) for name, t in branches.items()}
        self._some = {name: long_of(1 - t.index("null")) for name, t in branches.items()}

    def part(self, name, record):
        """One sub-record (`candidate`, `prv_candidate`, `fp_hist`) as Avro."""
        out = BytesIO()
        fastavro.schemaless_writer(out, self._parts[f"ztf.alert.{name}"], record)
        return out.getvalue()

    def record(self, object_id, candid, candidate, previous, forced, cutouts):
        """One alert without its container.

        Parameters
        ----------
        object_id : str
        candid : int
        candidate : bytes
            Encoded by `part`, as are all others.
        previous, forced : list of bytes
            Written as null where empty, as ZTF does.
        cutouts : (science, template, difference), each (name, bytes) or None
        """
        out = [self._fixed, bytes_of(object_id.encode()), long_of(candid), candidate]
        for name, rows in (("prv_candidates", previous), ("fp_hists", forced)):
            out.append(self._some[name] + array_of(rows) if rows else self._null[name])
        for name, stamp in zip(("cutoutScience", "cutoutTemplate", "cutoutDifference"), cutouts):
            if stamp is None:
                out.append(self._null[name])
            else:
                out.append(self._some[name] + bytes_of(stamp[0].encode()) + bytes_of(stamp[1]))
        return b"".join(out)

    def container(self, records):
        """An object container of records, a block each."""
        return self.header + b"".join(long_of(1) + bytes_of(record) + self.sync for record in records)


@lru_cache(maxsize=1)
def ztf_writer():
    """The writer; parsed once a process."""
    return ZtfWriter()


@lru_cache(maxsize=64)
def _stamp_header(height, width):
    # Cards as ZTF's own, whose first is not in FITS fixed format: a reader that insists on that fails on real stamps.
    cards = [b"SIMPLE  =  T".ljust(80), *(fits_write.card(*c) for c in (("BITPIX", -32), ("NAXIS", 2)))]
    cards += [fits_write.card("NAXIS1", width), fits_write.card("NAXIS2", height), fits_write.card("BUNIT", "DN")]
    return fits_write.closed_header(b"".join(cards))


def cutout(pixels_dn):
    """One stamp [DN] as gzipped FITS without WCS."""
    return fits_write.gzipped(_stamp_header(*pixels_dn.shape) + fits_write.data(pixels_dn, ">f4"))


def file_names(candid, pid):
    """Names of the science, template and difference stamps."""
    return (
        f"candid{candid}_pid{pid}_targ_sci.fits.gz",
        f"candid{candid}_ref.fits.gz",
        f"candid{candid}_pid{pid}_targ_refmsci.fits.gz",
    )


def image_id(night, fraction, channel):
    """`pid`: night, fraction of it (5 digits), readout channel, 15."""
    return ((int(night) * 100_000 + int(fraction * 1e5)) * 100 + int(channel)) * 100 + 15


def neighbours(distances, stars, magnitudes):
    """Fields of the three nearest Pan-STARRS1 sources; -999 where there is none or no magnitude.

    Parameters
    ----------
    distances : array, shape (n,)
        arcsec.
    stars : sequence of float
        Star score of each.
    magnitudes : sequence of dict
        Band to magnitude.
    """
    within = [k for k in np.argsort(distances, kind="stable") if distances[k] < 30.0]
    fields = {"nmtchps": len(within)}
    for n in (1, 2, 3):
        k = within[n - 1] if n <= len(within) else None
        fields[f"distpsnr{n}"] = NO_VALUE if k is None else float(distances[k])
        fields[f"sgscore{n}"] = NO_VALUE if k is None else float(stars[k])
        fields[f"objectidps{n}"] = None if k is None else 100_000_000_000_000_000 + int(distances[k] * 1e6) * 64 + k
        for band in "griz":
            value = None if k is None else magnitudes[k].get(band)
            faint = value is None or not np.isfinite(value) or value > 23.5  # beyond what Pan-STARRS1 stacks list
            fields[f"s{band}mag{n}"] = NO_VALUE if faint else float(value)
    return fields

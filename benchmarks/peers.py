"""How others do it: brokers' Python (fastavro, gzip, astropy, scipy), and `cavro`, which stands in for BOOM's decoder."""

import gzip
import io
import warnings

import fastavro
import numpy as np
from scipy.ndimage import map_coordinates

from benchmarks.alerts import LSST_ID
from dgl_broker.stamps import GZIP_MAGIC, inflate
from dgl_broker.wire.confluent import HEAD_BYTES
from dgl_broker.wire.containers import Container
from dgl_broker.wire.limits import DEFAULT

STAMPS = {
    "ztf": ("cutoutScience", "cutoutTemplate", "cutoutDifference"),
    "lsst": ("cutoutScience", "cutoutTemplate", "cutoutDifference"),
}
# cavro's time over BOOM's (boom@8ebd463), decoding alone, measured side by side on one core: from the survey of peers in the
# project's references, for ZTF 4.02, LSST with a short history, and LSST with a long one. cavro refuses the schema of ZTF 4.01.
CAVRO_OVER_BOOM = {("ztf", "20 earlier rows"): 1.04, ("lsst", "new objects"): 0.54, ("lsst", "mature"): 0.91}


def read_as_brokers(mix):
    """Reads each packet of a mix the way that brokers' tutorials do: all of it as dicts, the stamps by astropy."""
    schema = None if mix.survey == "ztf" else fastavro.parse_schema(mix.schemas.writer_schema(LSST_ID).tree)

    def packet(value):
        if mix.survey == "ztf":
            return next(fastavro.reader(io.BytesIO(value)))
        return fastavro.schemaless_reader(io.BytesIO(value[HEAD_BYTES:]), schema)

    def decode():
        for value in mix.values:
            packet(value)

    def decode_and_stamps():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # astropy finds fault with ZTF's headers
            for value in mix.values:
                record = packet(value)
                for name in STAMPS[mix.survey]:
                    if record[name] is not None:
                        open_by_astropy(record[name]["stampData"] if mix.survey == "ztf" else record[name])

    return decode, decode_and_stamps


def open_by_astropy(data):
    """Pixels of a stamp, gzipped or not, as brokers' tutorials have them."""
    from astropy.io import fits

    file = io.BytesIO(data)
    with gzip.open(file) if data[:2] == GZIP_MAGIC else file as plain, fits.open(plain) as hdus:
        return hdus[0].data


def place_by_scipy(stamp, side, pixel_scale_arcsec, softening_njy):
    """(plane, valid) of one `Stamp` on a north-up grid: cubic splines for the pixels, bilinear for the mask."""
    inverse = np.linalg.inv(stamp.matrix)
    offset = (np.arange(side) - (side - 1) / 2.0) * pixel_scale_arcsec
    north, east = np.meshgrid(offset, -offset, indexing="ij")
    x = inverse[0, 0] * east + inverse[0, 1] * north + stamp.x0
    y = inverse[1, 0] * east + inverse[1, 1] * north + stamp.y0
    pixels = stamp.pixels if stamp.in_njy else stamp.pixels - np.nanmedian(np.where(stamp.valid, stamp.pixels, np.nan))
    placed = map_coordinates(pixels, [y, x], order=3)
    valid = map_coordinates(stamp.valid.astype(float), [y, x], order=1) > 0.99
    return np.where(valid, np.arcsinh(placed / softening_njy), 0.0).astype(np.float32), valid


def cavro_decode(mix):
    """Decodes each packet of a mix with cavro, its schema read once; None where it is not installed or refuses the schema."""
    try:
        import cavro
    except ImportError:
        return None
    payloads = []
    for value in mix.values:
        if mix.survey == "ztf":
            container = Container(value, DEFAULT)
            data, start, stop = container.one()
            payloads.append((container.metadata[b"avro.schema"].decode(), data[start:stop]))
        else:
            payloads.append((None, value[HEAD_BYTES:]))
    try:
        schemas = {
            text: cavro.Schema(text or mix.schemas.writer_schema(LSST_ID).tree) for text in {text for text, _ in payloads}
        }
    except Exception as error:  # noqa: BLE001 - cavro's own errors have no common base
        print(f"    cavro refuses the schema of {mix.title}: {str(error)[:100]}")
        return None

    def decode():
        for text, payload in payloads:
            schemas[text].binary_decode(payload)

    return decode


def inflate_stamps(mix, cutouts):
    """Inflates stamps and takes their pixels, no more: what BOOM's stamps come to. For ZTF alone; BOOM leaves LSST's packed."""

    def inflate_all():
        for stamps in cutouts:
            for stamp in stamps:
                raw = inflate(stamp)
                np.frombuffer(raw, ">f4", 63 * 63, 2880).astype(np.float32)

    return inflate_all

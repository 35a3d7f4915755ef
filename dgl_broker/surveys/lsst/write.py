"""Simulated LSST observations as alert packets: records in Rubin's field names, types and order, in Confluent framing.

Our own schema files say which fields are written (`schemas/write/901000.avsc` after Rubin's 10.0, `901101.avsc` after 11.1;
their ids are 900,000 plus Rubin's). With a folder of Rubin's own schemas the same records are written by those, with Rubin's
ids; fields that have a default there and no value here get the default. A packet is put together from parts that are encoded
once: earlier detections and forced photometry recur in every later alert of an object.
"""

import struct
from functools import lru_cache
from io import BytesIO
from pathlib import Path

import fastavro

from dgl_broker.data_files import schema_path
from dgl_broker.errors import InputUnavailable
from dgl_broker.surveys import fits_write
from dgl_broker.surveys.avro_parts import array_of, bytes_of, long_of, records_of

VERSIONS = ("10.0", "11.1")
OWN_ID = 900_000  # registry ids of our own schemas start here: ours = this + Rubin's

_PIXEL_FLAGS = tuple(
    "pixelFlags" + name
    for name in (
        "", "_bad", "_cr", "_crCenter", "_edge", "_nodata", "_nodataCenter", "_interpolated", "_interpolatedCenter",
        "_offimage",
        "_saturated", "_saturatedCenter", "_suspect", "_suspectCenter", "_streak", "_streakCenter", "_injected",
        "_injectedCenter", "_injected_template", "_injected_templateCenter",
    )
)  # fmt: skip
_FALSE = dict.fromkeys(
    (
        "centroid_flag", "apFlux_flag", "apFlux_flag_apertureTruncated", "psfFlux_flag", "psfFlux_flag_edge",
        "psfFlux_flag_noGoodPixels", "forced_PsfFlux_flag", "forced_PsfFlux_flag_edge", "forced_PsfFlux_flag_noGoodPixels",
        "shape_flag", "shape_flag_no_pixels", "shape_flag_not_contained", "shape_flag_parent_source", "isDipole",
        "dipoleFitAttempted", "glint_trail", *_PIXEL_FLAGS,
    ),
    False,
)  # fmt: skip
_SOURCE_DEFAULTS = {
    **_FALSE,
    "ssObjectId": 0,
    "parentDiaSourceId": 0,
    "psfNdata": 1681,  # 41 x 41 pixels
    "trailNdata": 0,
    "dipoleNdata": 0,
    "timeWithdrawnMjdTai": None,
    "exposureTime": 30.0,
    "reliabilityVersion": "1",
}


def registry_id(version):
    """Rubin's id of a schema version: 100 times the major number plus the minor one."""
    major, minor = version.split(".")
    return 100 * int(major) + int(minor)


def _branches(schema):
    """Prefixes of a nullable type's null branch and other branch, and the other type; (None, b"", type) if not nullable."""
    if isinstance(schema, list):
        null = schema.index("null")
        return long_of(null), long_of(1 - null), schema[1 - null]
    return None, b"", schema


class LsstWriter:
    """Encodes the parts of LSST alert packets by one schema, and puts them together.

    Parameters
    ----------
    version : str
        Rubin's schema version that the fields follow: "10.0" or "11.1".
    official : path, optional
        Folder with Rubin's own schema files (`lsst.v10_0.alert.avsc` beside its parts, at any depth); packets then carry
        Rubin's id. Without it, our own schema and id.
    """

    def __init__(self, version="10.0", official=None):
        if version not in VERSIONS:
            raise InputUnavailable(f"no writer for lsst schema {version}, expected one of {', '.join(VERSIONS)}")
        self.version = version
        if official is None:
            self.schema_id = OWN_ID + registry_id(version)
            path = schema_path(f"write/{self.schema_id}.avsc")
        else:
            self.schema_id = registry_id(version)
            name = f"lsst.v{version.replace('.', '_')}.alert.avsc"
            path = next(iter(sorted(Path(official).rglob(name))), None)
            if path is None:
                raise InputUnavailable(f"{official}: no {name} in it")
        self.schema = fastavro.schema.load_schema(str(path))
        self._prefix = b"\0" + struct.pack(">I", self.schema_id)
        self._fields = [(f["name"], *_branches(f["type"])) for f in self.schema["fields"]]
        space = self.schema["name"].rpartition(".")[0]
        records = dict(records_of(self.schema))
        self._parts = {n: records[f"{space}.{n}"] for n in ("diaSource", "diaForcedSource", "diaObject", "ssSource")}

    def part(self, name, record):
        """One sub-record (`diaSource`, `diaForcedSource`, `diaObject`, `ssSource`) as Avro."""
        out = BytesIO()
        fastavro.schemaless_writer(out, self._parts[name], record)
        return out.getvalue()

    def packet(self, source_id, source, previous, forced, dia_object, ss_source, cutouts, reason=None, target=None):
        """One framed packet.

        Parameters
        ----------
        source_id : int
            Number of the triggering detection.
        source : bytes
            The detection, encoded by `part`, as are all others.
        previous, forced : list of bytes or None
            Earlier detections and forced photometry; None is written as null, [] as an empty array.
        dia_object, ss_source : bytes or None
        cutouts : (difference, science, template), bytes or None each
        reason, target : str, optional
            Why the visit was made, and at what.
        """
        values = {
            "diaSourceId": long_of(source_id),
            "observation_reason": None if reason is None else bytes_of(reason.encode()),
            "target_name": None if target is None else bytes_of(target.encode()),
            "diaSource": source,
            "prvDiaSources": None if previous is None else array_of(previous),
            "prvDiaForcedSources": None if forced is None else array_of(forced),
            "diaObject": dia_object,
            "ssSource": ss_source,
            **{
                f"cutout{n}": None if c is None else bytes_of(c) for n, c in zip(("Difference", "Science", "Template"), cutouts)
            },
        }
        out = [self._prefix]
        for name, null, some, _ in self._fields:
            value = values.get(name)
            if value is None:
                out.append(null)
            else:
                out.append(some)
                out.append(value)
        return b"".join(out)


@lru_cache(maxsize=8)
def lsst_writer(version="10.0", official=None):
    """The writer of a version; parsed once a process."""
    return LsstWriter(version, official)


def dia_source(**values):
    """A diaSource record: official field names as given, everything else as Rubin leaves it for a clean detection."""
    return {**_SOURCE_DEFAULTS, **values}


_BAND_FIELDS = ("psfFluxMean", "psfFluxMeanErr", "psfFluxSigma", "scienceFluxMean", "scienceFluxMeanErr", "psfFluxMin")
_BAND_FIELDS += ("psfFluxMax", "psfFluxMaxSlope", "psfFluxErrMean")
_EMPTY_OBJECT = {f"{b}_{name}": None for b in "ugrizy" for name in _BAND_FIELDS} | {f"{b}_psfFluxNdata": 0 for b in "ugrizy"}


class ObjectSummary:
    """The statistics of a diaObject, detection by detection.

    Parameters
    ----------
    as_v10 : bool
        Leave what real v10 packets leave null: times of first and last detection, and all bands but the trigger's.
    """

    def __init__(self, as_v10):
        self.as_v10, self.n, self.first, self.bands = as_v10, 0, None, {}

    def add(self, mjd_tai, band, flux, error, science, science_error):
        """The record after one more detection (nJy, MJD TAI), without id, place and validity."""
        self.n += 1
        self.first = mjd_tai if self.first is None else self.first
        sums = self.bands.setdefault(band, [0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, flux, flux, 0.0, None])
        weight, science_weight = error**-2, science_error**-2
        sums[0] += 1
        for at, value in enumerate(
            (weight, weight * flux, science_weight, science_weight * science, flux, flux * flux, error), 1
        ):
            sums[at] += value
        sums[8], sums[9] = min(sums[8], flux), max(sums[9], flux)
        if sums[11] is not None:
            sums[10] = max(sums[10], abs(flux - sums[11][1]) / max(mjd_tai - sums[11][0], 1e-4))
        sums[11] = mjd_tai, flux
        record = dict(_EMPTY_OBJECT)
        for name in (band,) if self.as_v10 else self.bands:
            n, w, wf, sw, swf, f, ff, e, low, high, slope, _ = self.bands[name]
            record[f"{name}_psfFluxMean"], record[f"{name}_psfFluxMeanErr"] = wf / w, w**-0.5
            record[f"{name}_psfFluxNdata"] = n
            record[f"{name}_scienceFluxMean"], record[f"{name}_scienceFluxMeanErr"] = swf / sw, sw**-0.5
            record[f"{name}_psfFluxMin"], record[f"{name}_psfFluxMax"] = low, high
            record[f"{name}_psfFluxErrMean"] = e / n
            if n > 1:
                record[f"{name}_psfFluxSigma"] = max((ff - f * f / n) / (n - 1), 0.0) ** 0.5
                record[f"{name}_psfFluxMaxSlope"] = slope
        record["firstDiaSourceMjdTai"] = None if self.as_v10 else self.first
        record["lastDiaSourceMjdTai"] = None if self.as_v10 else mjd_tai
        record["nDiaSources"] = self.n
        return record


@lru_cache(maxsize=64)
def _plane_header(kind, height, width):
    cards = [
        ("XTENSION", "IMAGE", "Image extension"),
        ("BITPIX", -64 if kind == "PSFIMAGE" else -32, "array data type"),
        ("NAXIS", 2, "number of array dimensions"),
        ("NAXIS1", width, ""),
        ("NAXIS2", height, ""),
        ("PCOUNT", 0, "number of parameters"),
        ("GCOUNT", 1, "number of groups"),
    ]
    if kind == "UNCERT":
        cards.append(("UTYPE", "VarianceUncertainty", ""))
    return fits_write.header([*cards, ("EXTNAME", kind, "extension name")])


@lru_cache(maxsize=16)
def _stamp_header_template(height, width, with_rotation):
    """Header text with a place of 20 characters for each number that changes."""
    matrix = [(f"PC{i}_{j}", _HOLE, "Coordinate transformation matrix element") for i in (1, 2) for j in (1, 2)]
    cards = [
        ("SIMPLE", True, "conforms to FITS standard"),
        ("BITPIX", -32, "array data type"),
        ("NAXIS", 2, "number of array dimensions"),
        ("NAXIS1", width, ""),
        ("NAXIS2", height, ""),
        ("EXTEND", True, ""),
        ("CUTMINX", _HOLE, ""),
        ("CUTMINY", _HOLE, ""),
        *([("ROTPA", _HOLE, "Pos angle in deg of focal plane +Y wrt North")] if with_rotation else []),
        ("BUNIT", "nJy", ""),
        ("WCSAXES", 2, "Number of coordinate axes"),
        ("CRPIX1", _HOLE, "Pixel coordinate of reference point"),
        ("CRPIX2", _HOLE, "Pixel coordinate of reference point"),
        *matrix,
        ("CDELT1", 1.0, "Coordinate increment at reference point"),
        ("CDELT2", 1.0, "Coordinate increment at reference point"),
        ("CRVAL1", _HOLE, "Coordinate value at reference point"),
        ("CRVAL2", _HOLE, "Coordinate value at reference point"),
        ("LATPOLE", 90.0, "[deg] Native latitude of celestial pole"),
        ("MJDREF", 0.0, "[d] MJD of fiducial time"),
    ]
    return fits_write.header(cards).replace(b"%20d" % _HOLE, b"%20s")


_HOLE = -99999999999999  # stands in header templates where a number goes


def stamp_header(height, width, corner, crpix, matrix, crval, rotation_deg=None):
    """Header of the primary plane, as real stamps have it: a linear matrix in degrees and no CTYPE.

    Parameters
    ----------
    corner : (int, int)
        CUTMINX, CUTMINY: the detector's pixel before the stamp's first.
    crpix : (float, float)
        1-based place of the source in the stamp [pixel].
    matrix : array, shape (2, 2)
        East and north of one step along x and y [deg].
    crval : (float, float)
        ra, dec of the source [deg].
    rotation_deg : float, optional
        ROTPA, which only packets from v10 on have.
    """
    values = [*corner] + ([] if rotation_deg is None else [rotation_deg]) + [*crpix, *matrix[0], *matrix[1], *crval]
    texts = tuple(fits_write.number(v).encode() for v in values)
    return _stamp_header_template(height, width, rotation_deg is not None) % texts


def cutout(primary_header, image, variance, psf):
    """One stamp: PRIMARY [nJy], UNCERT [nJy^2], PSFIMAGE (unit sum)."""
    return b"".join(
        (
            primary_header,
            fits_write.data(image, ">f4"),
            _plane_header("UNCERT", *variance.shape),
            fits_write.data(variance, ">f4"),
            _plane_header("PSFIMAGE", *psf.shape),
            fits_write.data(psf, ">f8"),
        )
    )

"""FITS stamps against astropy, and what hostile ones do."""

import gzip
import io
import struct

import fastavro
import numpy as np
import pytest
from astropy.io import fits
from astropy.wcs import WCS
from make_alerts import fits_bytes, gaussian, wcs_cards

from dgl_broker.alert import Cutouts
from dgl_broker.errors import PacketError
from dgl_broker.stamps import inflate, read_fits_image, read_stamp
from dgl_broker.surveys import read_alert
from dgl_broker.wire import decode

pytestmark = pytest.mark.usefixtures("decoder")

LSST = Cutouts(None, None, None)
ZTF = Cutouts(None, None, None, to_njy=(7.0, np.nan, -7.0), pixel_scale_arcsec=1.012, full_side=63)


@pytest.mark.parametrize("dtype", ["u1", "i2", "i4", "i8", "f4", "f8"])
@pytest.mark.parametrize("gzipped", [False, True])
def test_pixels_equal_astropys(dtype, gzipped):
    image = np.arange(48 * 63).reshape(48, 63).astype(dtype)
    data = fits_bytes(image, gzipped)
    with fits.open(io.BytesIO(gzip.decompress(data) if gzipped else data)) as hdus:
        assert np.array_equal(read_fits_image(data)[0], hdus[0].data.astype(np.float32))


def test_bscale_bzero_and_blank_are_applied():
    cards = [
        "SIMPLE = T",
        "BITPIX = 16",
        "NAXIS = 2",
        "NAXIS1 = 2",
        "NAXIS2 = 2",
        "BSCALE = 2.5D0 / twice and a half",
        "BLANK = -999",
    ]
    header = "".join(f"{c.split(' = ')[0]:<8}= {c.split(' = ')[1]}".ljust(80) for c in cards) + "END"
    raw = header.ljust(2880).encode() + np.array([[1, 2], [3, -999]], ">i2").tobytes()
    pixels, _ = read_fits_image(raw)
    assert pixels[0].tolist() == [2.5, 5.0] and pixels[1, 0] == 7.5 and np.isnan(pixels[1, 1])


def test_free_format_values_are_read():
    data = fits_bytes(np.ones((3, 4), np.float32))
    data = data.replace(b"SIMPLE  =                    T", b"SIMPLE  =  T                  ")
    data = data.replace(b"NAXIS1  =                    4", b"NAXIS1  = 4 / odd column      ")
    assert read_fits_image(data)[0].shape == (3, 4)


def test_shape_comes_from_naxis_not_from_length():
    # 63 x 62 and 63 x 63 pixels fill the same number of blocks.
    a, b = np.ones((62, 63), np.float32), np.ones((63, 63), np.float32)
    assert len(fits_bytes(a)) == len(fits_bytes(b))
    assert read_fits_image(fits_bytes(a))[0].shape == (62, 63)


@pytest.mark.parametrize(
    "change, reason",
    [
        ((b"NAXIS   =                    2", b"NAXIS   =                    3"), "stamp_header"),
        ((b"NAXIS1  =                    5", b"NAXIS1  =            999999999"), "stamp_header"),
        ((b"NAXIS1  =                    5", b"NAXIS1  =                   -5"), "stamp_header"),
        ((b"NAXIS1  =                    5", b"NAXIS1  =                  nan"), "stamp_header"),
        ((b"NAXIS1  =                    5", b"NAXIS1  =                  200"), "stamp_truncated"),
        ((b"BITPIX  =                  -32", b"BITPIX  =                  -31"), "stamp_header"),
        ((b"SIMPLE", b"SAMPLE"), "stamp_header"),
        ((b"\nEND", b""), None),
    ],
)
def test_absurd_headers_are_refused_by_name(change, reason):
    data = fits_bytes(np.ones((5, 5), np.float32)).replace(*change)
    if reason is None:
        assert read_fits_image(data)[0].shape == (5, 5)
        return
    with pytest.raises(PacketError) as caught:
        read_fits_image(data)
    assert caught.value.reason == reason


def test_header_without_end_stops_at_the_limit():
    with pytest.raises(PacketError, match="without END"):
        read_fits_image(b"SIMPLE  =                    T".ljust(80) * 10000)


def test_gzip_bomb_stops_at_the_limit():
    with pytest.raises(PacketError) as caught:
        inflate(gzip.compress(bytes(50_000_000)), max_bytes=1_000_000)
    assert caught.value.reason == "stamp_too_large"


def test_wrong_size_claim_in_gzip_is_not_believed():
    data = gzip.compress(b"x" * 1000)
    assert inflate(data[:-4] + struct.pack("<I", 1000)) == b"x" * 1000
    for claim in (10, 999, 1001, 2**32 - 1):
        with pytest.raises(PacketError):
            inflate(data[:-4] + struct.pack("<I", claim))


def test_truncated_gzip_is_refused():
    with pytest.raises(PacketError) as caught:
        inflate(gzip.compress(np.random.default_rng(0).bytes(5000))[:2000])
    assert caught.value.reason == "stamp_inflate"


def test_nested_gzip_is_no_fits_file():
    with pytest.raises(PacketError, match="expected a FITS primary header"):
        read_fits_image(gzip.compress(gzip.compress(b"SIMPLE")))


def test_lsst_stamp_lies_where_astropy_says():
    cards = wcs_cards(134.0, x0=13.2, y0=16.9)
    stamp = read_stamp(fits_bytes(gaussian(30, 13.2, 16.9), **cards), "difference", LSST)
    header = fits.Header(cards | {"CTYPE1": "RA---TAN", "CTYPE2": "DEC--TAN"})
    wcs = WCS(header)
    for x, y in ((0, 0), (29, 3), (7.5, 21.25)):
        east, north = stamp.matrix @ (x - stamp.x0, y - stamp.y0)
        ra, dec = wcs.wcs_pix2world(x, y, 0)
        assert east == pytest.approx((ra - 150.0) * np.cos(np.radians(2.2)) * 3600, abs=1e-4)
        assert north == pytest.approx((dec - 2.2) * 3600, abs=1e-4)


def test_ztf_rows_grow_south_and_columns_west():
    stamp = read_stamp(fits_bytes(gaussian(63, 31, 31), True), "science", ZTF)
    assert stamp.matrix.tolist() == [[-1.012, 0.0], [0.0, -1.012]]


def test_nan_pixels_are_masked_and_zero_planes_missing():
    image = gaussian(63, 31, 31)
    image[3, 5] = np.nan
    stamp = read_stamp(fits_bytes(image, True), "science", ZTF)
    assert not stamp.valid[3, 5] and stamp.pixels[3, 5] == 0 and stamp.valid.sum() == 63 * 63 - 1
    assert read_stamp(fits_bytes(np.zeros((63, 63), np.float32), True), "science", ZTF) is None
    assert read_stamp(fits_bytes(np.full((63, 63), np.nan, np.float32), True), "science", ZTF) is None
    assert read_stamp(None, "science", ZTF) is None and read_stamp(b"", "science", ZTF) is None


@pytest.mark.parametrize("absent", [np.finfo(np.float32).max, -3e38, 1e30, np.inf])
def test_pixels_of_absurd_size_are_masked(absent):
    image = gaussian(63, 31, 31)
    image[40:, 50] = absent
    for kind in ("science", "template", "difference"):
        stamp = read_stamp(fits_bytes(image, True), kind, ZTF)
        assert not stamp.valid[40:, 50].any() and stamp.valid.sum() == 63 * 63 - 23
        assert np.abs(stamp.pixels).max() < 7e4


def test_ztf_writes_the_least_float_where_its_template_has_no_data(shared):
    # So in 2 of the 324 alerts collected, just where the science stamp of the same alert has NaN.
    name = "ZTF18acyizaa.1703222170415010089.ztf_20210831_programid1.avro"
    data = (shared / "data/alerts/ztf/v3_3_survey_mix" / name).read_bytes()
    record = next(fastavro.reader(io.BytesIO(data)))
    template, science = (
        np.frombuffer(gzip.decompress(record[f"cutout{which}"]["stampData"]), ">f4", 63 * 63, 2880).reshape(63, 63)
        for which in ("Template", "Science")
    )
    absent = np.isnan(science)
    assert absent.sum() == 876 and (template[absent] == np.finfo(np.float32).min).all()
    alert = read_alert(decode(data))
    assert np.array_equal(read_stamp(alert.cutouts.template, "template", alert.cutouts).valid, ~absent)


@pytest.mark.parametrize(
    "cards",
    [
        {"PC1_1": 1e300, "PC2_2": 1e-300},
        {"PC1_1": 2e5, "PC2_2": 2e-13},
        {"PC1_1": 1e-4, "PC1_2": 1e-4, "PC2_1": 1e-4, "PC2_2": 1.01e-4},
        {"PC1_1": 0.0, "PC1_2": 0.0},
        {"CDELT1": 1e308, "CDELT2": 1e308},
    ],
)
def test_matrix_that_no_camera_has_is_refused(cards):
    with pytest.raises(PacketError, match="FITS matrix has pixels") as caught:
        read_stamp(fits_bytes(gaussian(30, 14, 14), **(wcs_cards(30.0) | cards)), "difference", LSST)
    assert caught.value.reason == "stamp_header"


def test_units_follow_the_zero_point_and_the_sign():
    image = gaussian(63, 31, 31)
    assert read_stamp(fits_bytes(image, True), "science", ZTF).pixels == pytest.approx(image * 7.0)
    assert read_stamp(fits_bytes(image, True), "difference", ZTF).pixels == pytest.approx(image * -7.0)
    template = read_stamp(fits_bytes(image, True), "template", ZTF)
    assert not template.in_njy and template.pixels == pytest.approx(image)


@pytest.mark.parametrize("place, expected", [((10.0, 1500.0), (10, 31)), ((3060.0, 1500.0), (31, 31)), (None, (31, 31))])
def test_stamp_cut_at_the_detectors_edge_keeps_its_source(place, expected):
    # 42 of 63 columns: cut at the low edge the source lies 21 columns nearer to the first one.
    cutouts = Cutouts(None, None, None, pixel_scale_arcsec=1.012, full_side=63, detector_xy=place)
    stamp = read_stamp(fits_bytes(np.ones((63, 42), np.float32)), "science", cutouts)
    assert (stamp.x0, stamp.y0) == expected


def test_source_outside_its_stamp_is_refused():
    with pytest.raises(PacketError, match="CRPIX"):
        read_stamp(fits_bytes(gaussian(30, 5, 5), **wcs_cards(0, x0=200.0)), "difference", LSST)

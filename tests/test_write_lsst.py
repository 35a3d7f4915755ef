"""The LSST packet writer against fastavro, Rubin's own schemas and reader, and astropy."""

import io
import os
import struct
from pathlib import Path

import fastavro
import numpy as np
import pytest
from astropy.io import fits
from sim_toys import system

from dgl_broker import wire
from dgl_broker.sim.packets import own_schemas, simulate_packets
from dgl_broker.surveys import fits_write
from dgl_broker.surveys.lsst import write

SHARED = os.environ.get("DGL_SHARED") or None
needs_shared = pytest.mark.skipif(SHARED is None, reason="DGL_SHARED is not set: no official schemas here")
OFFICIAL = Path(SHARED or "/") / "data/schemas/lsst"


@pytest.fixture(autouse=True, scope="module")
def built_in_cadence():
    """The model's cadence, whatever data are at hand: the systems here were chosen with it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("DGL_SIM_DATA", raising=False)
        yield


def _alerts(schema=None):
    return simulate_packets(system(peaks_njy=15000.0), "lsst", schema=schema)


@pytest.mark.parametrize("version, number", [("10.0", 901000), ("11.1", 901101)])
def test_packet_put_together_from_parts_is_what_fastavro_writes(version, number):
    writer = write.lsst_writer(version)
    value = _alerts(version)[-1].value
    assert value[:1] == b"\0" and struct.unpack(">I", value[1:5]) == (number,)
    record = fastavro.schemaless_reader(io.BytesIO(value[5:]), writer.schema)
    assert len(record["prvDiaSources"]) > 3 and len(record["prvDiaForcedSources"]) > 10
    out = io.BytesIO()
    fastavro.schemaless_writer(out, writer.schema, record)
    assert out.getvalue() == value[5:]


def test_empty_history_is_written_as_the_survey_does():
    writer = write.lsst_writer()
    record = fastavro.schemaless_reader(io.BytesIO(_alerts()[0].value[5:]), writer.schema)
    assert record["prvDiaSources"] is None
    assert record["diaObject"]["nDiaSources"] == 1
    assert record["diaSource"]["diaObjectId"] == record["diaSourceId"]  # Rubin names an object after its first detection


@needs_shared
@pytest.mark.parametrize("version, number", [("10.0", 1000), ("11.1", 1101)])
def test_official_schema_writes_our_record_and_gets_its_own_id(version, number):
    ours = _alerts(version)
    official = _alerts((version, OFFICIAL))
    value = official[-1].value
    assert struct.unpack(">I", value[1:5]) == (number,)
    schema = fastavro.schema.load_schema(str(next(OFFICIAL.rglob(f"lsst.v{version.replace('.', '_')}.alert.avsc"))))
    record = fastavro.schemaless_reader(io.BytesIO(value[5:]), schema)
    own = fastavro.schemaless_reader(io.BytesIO(ours[-1].value[5:]), write.lsst_writer(version).schema)
    assert record["cutoutScience"] == own["cutoutScience"]
    for part in ("diaSource", "diaObject"):
        for name, value in own[part].items():
            assert record[part][name] == value, name
    assert record["mpc_orbits"] is None and record["diaSource"]["psfLnL"] is None


@needs_shared
@pytest.mark.parametrize("version", ["10.0", "11.1"])
def test_own_schema_has_official_names_types_and_order(version):
    official = fastavro.schema.load_schema(str(next(OFFICIAL.rglob(f"lsst.v{version.replace('.', '_')}.alert.avsc"))))
    own = write.lsst_writer(version).schema

    def check(mine, theirs):
        names = [f["name"] for f in theirs["fields"]]
        assert mine["name"] == theirs["name"]
        at = [names.index(f["name"]) for f in mine["fields"]]
        assert at == sorted(at)
        by_name = {f["name"]: f for f in theirs["fields"]}
        for f in mine["fields"]:
            other = by_name[f["name"]]
            assert f.get("default", "none") == other.get("default", "none"), f["name"]
            same(f["type"], other["type"], f["name"])

    def same(mine, theirs, name):
        if isinstance(mine, list):
            assert len(mine) == len(theirs), name
            for a, b in zip(mine, theirs):
                same(a, b, name)
        elif isinstance(mine, dict) and mine["type"] == "record":
            check(mine, theirs)
        elif isinstance(mine, dict) and mine["type"] == "array":
            same(mine["items"], theirs["items"], name)
        else:
            plain = [t["type"] if isinstance(t, dict) and t["type"] in ("string", "bytes") else t for t in (mine, theirs)]
            assert plain[0] == plain[1], name

    check(own, official)


@needs_shared
def test_rubins_own_reader_reads_a_packet_written_by_the_official_schema():
    packet = pytest.importorskip("lsst.alert.packet")
    value = _alerts(("10.0", OFFICIAL))[-1].value
    schema = packet.Schema.from_file(str(OFFICIAL / "v10_0/lsst.v10_0.alert.avsc"))
    record = schema.deserialize(value[5:])
    assert record["diaSourceId"] > 2**53
    assert record["diaSource"]["snr"] > 4


def test_projects_own_reader_reads_every_packet():
    source = own_schemas("lsst")
    from dgl_broker.surveys import read_alert

    alerts = _alerts()
    for made in alerts[:: max(1, len(alerts) // 6)]:
        alert = read_alert(wire.decode(made.value, "lsst", source))
        assert alert.alert_id == made.alert_id and alert.object_id == made.object_id
        assert alert.n_detections == made.labels["n_detections"]
        assert alert.mjd_tai == made.mjd_tai
        assert np.max(alert.light_curve.mjd_tai) <= alert.mjd_tai


def test_cutout_is_plain_fits_of_three_planes_as_real_ones():
    record = fastavro.schemaless_reader(io.BytesIO(_alerts()[2].value[5:]), write.lsst_writer().schema)
    for name in ("cutoutDifference", "cutoutScience", "cutoutTemplate"):
        with fits.open(io.BytesIO(record[name])) as planes:
            planes.verify("exception")
            assert [p.name for p in planes] == ["PRIMARY", "UNCERT", "PSFIMAGE"]
            assert planes[0].data.dtype == ">f4" and planes[0].header["BUNIT"] == "nJy"
            assert planes[1].data.shape == planes[0].data.shape and planes[1].header["UTYPE"] == "VarianceUncertainty"
            assert planes[2].data.dtype == ">f8" and planes[2].data.sum() == pytest.approx(1.0, abs=2e-6)
            assert "CTYPE1" not in planes[0].header
        if name != "cutoutTemplate":
            assert len(record[name]) == 34560  # as every 30 px stamp of real packets


def test_header_numbers_survive_to_ten_digits():
    header = write.stamp_header(30, 30, (2035, 1759), (15.886499456374, 15.36395), np.array([[-3.596e-5, 4.235e-5]] * 2),
                                (59.482531729321, -48.089733732432), 49.8877311078456)  # fmt: skip
    read = fits.Header.fromstring(header.decode())
    assert len(header) % 2880 == 0
    assert (read["CUTMINX"], read["CUTMINY"], read["NAXIS1"]) == (2035, 1759, 30)
    for key, value in (
        ("CRPIX1", 15.886499456374),
        ("CRVAL1", 59.482531729321),
        ("CRVAL2", -48.089733732432),
        ("PC1_2", 4.235e-5),
    ):
        assert read[key] == pytest.approx(value, rel=1e-12)


def test_cards_are_those_of_astropy():
    for key, value, comment in (
        ("SIMPLE", True, "conforms to FITS standard"),
        ("NAXIS", 2, ""),
        ("BUNIT", "nJy", ""),
        ("X", -1.5, "a"),
    ):
        card = fits_write.card(key, value, comment)
        assert len(card) == 80
        read = fits.Card.fromstring(card)
        read.verify("exception")
        assert read.value == value and read.comment == comment


def test_statistics_of_an_object_are_those_of_its_detections():
    rng = np.random.default_rng(0)
    flux, error, science = rng.normal(3000, 500, 9), rng.uniform(100, 300, 9), rng.normal(9000, 500, 9)
    mjd, band = 61000 + np.arange(9) * 1.5, list("grgrgrggr")
    summary = write.ObjectSummary(as_v10=False)
    for row in zip(mjd, band, flux, error, science, error):
        record = summary.add(*row)
    g = np.array([b == "g" for b in band])
    weight = error[g] ** -2
    assert record["g_psfFluxMean"] == pytest.approx(np.average(flux[g], weights=weight))
    assert record["g_psfFluxMeanErr"] == pytest.approx(weight.sum() ** -0.5)
    assert record["g_psfFluxSigma"] == pytest.approx(np.std(flux[g], ddof=1))
    assert record["g_psfFluxMaxSlope"] == pytest.approx(np.max(np.abs(np.diff(flux[g]) / np.diff(mjd[g]))))
    assert (record["g_psfFluxNdata"], record["r_psfFluxNdata"], record["nDiaSources"]) == (5, 4, 9)
    assert record["firstDiaSourceMjdTai"] == 61000.0 and record["z_psfFluxMean"] is None
    as_v10 = write.ObjectSummary(as_v10=True)
    for row in zip(mjd, band, flux, error, science, error):
        record = as_v10.add(*row)
    assert record["firstDiaSourceMjdTai"] is None and record["g_psfFluxMean"] is None and record["r_psfFluxMean"] is not None

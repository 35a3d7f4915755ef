"""The ZTF packet writer against fastavro, ZTF's own schema, and astropy."""

import gzip
import io
import json
import os
from pathlib import Path

import fastavro
import numpy as np
import pytest
from astropy.io import fits
from sim_toys import system

from dgl_broker import wire
from dgl_broker.data_files import schema_path
from dgl_broker.sim.packets import simulate_packets
from dgl_broker.surveys import read_alert
from dgl_broker.surveys.ztf import write

SHARED = os.environ.get("DGL_SHARED") or None
needs_shared = pytest.mark.skipif(SHARED is None, reason="DGL_SHARED is not set: no official schemas here")
OFFICIAL = Path(SHARED or "/") / "data/schemas/ztf/v4.02"


@pytest.fixture(autouse=True, scope="module")
def built_in_cadence():
    """The model's cadence, whatever data are at hand: the systems here were chosen with it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("DGL_SIM_DATA", raising=False)
        yield


@pytest.fixture(scope="module")
def alerts():
    return simulate_packets(system(index=2, peaks_njy=300000.0, galaxies=((0.0, 0.0, 300000.0, 0.8),)), "ztf")


def _official():
    named = {}
    for name in ("candidate", "prv_candidate", "fp_hist", "cutout"):
        fastavro.parse_schema(json.loads((OFFICIAL / f"{name}.avsc").read_text()), named)
    return fastavro.parse_schema(json.loads((OFFICIAL / "alert.avsc").read_text()), named)


def test_packet_is_a_container_of_one_record_that_fastavro_reads(alerts):
    value = alerts[-1].value
    assert value[:4] == b"Obj\x01"
    reader = fastavro.reader(io.BytesIO(value))
    assert reader.codec == "null"
    records = list(reader)
    assert len(records) == 1
    # The record put together from parts is what fastavro writes of it.
    out = io.BytesIO()
    fastavro.schemaless_writer(out, write.ztf_writer().schema, records[0])
    assert out.getvalue() in value


def test_many_records_share_a_container(alerts):
    value = write.ztf_writer().container([a.record for a in alerts[:4]])
    assert [r["candid"] for r in fastavro.reader(io.BytesIO(value))] == [a.alert_id for a in alerts[:4]]
    assert [p.record["candid"] for p, _ in wire.decode_all(value, "ztf")] == [a.alert_id for a in alerts[:4]]


@needs_shared
def test_own_schema_has_official_names_types_and_order():
    own = json.loads(schema_path("write/ztf.v4_02.avsc").read_text())

    def plain(fields):
        return [(f["name"], f["type"], f.get("default", "none")) for f in fields]

    found = {"alert": [f["name"] for f in own["fields"]]}
    for field in own["fields"]:
        for branch in field["type"] if isinstance(field["type"], list) else [field["type"]]:
            branch = branch.get("items", branch) if isinstance(branch, dict) else branch
            if isinstance(branch, dict):
                found[branch["name"]] = plain(branch["fields"])
    for name in ("candidate", "prv_candidate", "fp_hist", "cutout"):
        assert found[name] == plain(json.loads((OFFICIAL / f"{name}.avsc").read_text())["fields"]), name
    assert found["alert"] == [f["name"] for f in json.loads((OFFICIAL / "alert.avsc").read_text())["fields"]]


@needs_shared
def test_official_schema_reads_and_writes_our_record(alerts):
    schema = _official()
    record = next(fastavro.reader(io.BytesIO(alerts[-1].value), reader_schema=schema))
    out = io.BytesIO()
    fastavro.schemaless_writer(out, schema, record)
    assert out.getvalue() in alerts[-1].value
    assert record["schemavsn"] == "4.02" and record["candidate"]["programid"] == 1


def test_projects_own_reader_reads_every_packet(alerts):
    assert len(alerts) > 10
    for made in alerts[:: max(1, len(alerts) // 8)]:
        alert = read_alert(wire.decode(made.value, "ztf", None))
        assert (alert.alert_id, alert.object_id) == (made.alert_id, made.object_id)
        # JD is a double: 4e-5 s.
        assert alert.mjd_tai == pytest.approx(made.mjd_tai, abs=1e-7)
        assert alert.n_detections == made.labels["n_detections"]
        assert np.max(alert.light_curve.mjd_tai) <= alert.mjd_tai


def test_stamp_is_gzipped_fits_without_wcs(alerts):
    record = next(fastavro.reader(io.BytesIO(alerts[3].value)))
    for name in ("cutoutScience", "cutoutTemplate", "cutoutDifference"):
        data = record[name]["stampData"]
        assert data[:2] == b"\x1f\x8b"
        raw = gzip.decompress(data)
        assert len(raw) == 20160  # as every whole stamp of real packets
        with pytest.warns(fits.verify.VerifyWarning), fits.open(io.BytesIO(raw)) as planes:  # SIMPLE as ZTF writes it
            assert planes[0].data.shape == (63, 63) and planes[0].data.dtype == ">f4"
            assert planes[0].header["BUNIT"] == "DN" and "CRPIX1" not in planes[0].header


def test_neighbours_are_the_three_nearest_and_missing_ones_are_sentinels():
    fields = write.neighbours(np.array([5.0, 1.0, 31.0]), [0.9, 0.1, 0.5], [{"g": 20.0, "r": 24.5}, {"r": 19.0}, {"r": 15.0}])
    assert (fields["distpsnr1"], fields["sgscore1"], fields["srmag1"], fields["sgmag1"]) == (1.0, 0.1, 19.0, -999.0)
    assert (fields["distpsnr2"], fields["sgmag2"], fields["srmag2"]) == (5.0, 20.0, -999.0)
    assert (fields["distpsnr3"], fields["sgscore3"], fields["objectidps3"]) == (-999.0, -999.0, None)
    assert fields["nmtchps"] == 2


def test_image_id_is_night_fraction_channel():
    assert write.image_id(2695, 0.378462, 21) == 2695378462115  # of a real packet: night 2695, channel 21

"""Real packets: those of tests/data always, all of the shared collection where DGL_SHARED names it.

Numbers come from the tables that were made when the packets were collected, with fastavro and astropy.
"""

import csv
import math
import os
from pathlib import Path

import numpy as np
import pytest
from packets import DATA

from dgl_broker import wire
from dgl_broker.alert import BANDS, DETECTION, FORCED, UPPER_LIMIT
from dgl_broker.errors import PacketError
from dgl_broker.stamps import read_fits_image
from dgl_broker.surveys import FACTS, leading_facts, read_alert, read_head
from dgl_broker.wire import open_message

SHARED = os.environ.get("DGL_SHARED")
needs_shared = pytest.mark.skipif(not SHARED, reason="DGL_SHARED names no folder with the shared collection of alerts")
TAI_MINUS_UTC_D = 37 / 86400  # since 2017
MADE_UP = "confluent_fake"


def table(path):
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def rubin_schemas():
    package = pytest.importorskip("lsst.alert.packet", reason="needs lsst-alert-packet for Rubin's own schemas")
    return wire.FolderSchemas(Path(package.__file__).parent / "schema")


def packets_of(file, schemas):
    """Packets of a file in order, or the one error; each is decoded by every way that there is, which must agree."""
    if file.suffix == ".parquet":
        import pyarrow.parquet as pq

        return [wire.packet_from_record(None, row) for row in pq.read_table(file).to_pylist()]
    data = file.read_bytes()
    if not data.startswith(b"Obj\x01"):
        return [wire.decode(data, "lsst", schemas)]
    found = []
    for packet, raw in wire.decode_all(data):
        found.append(packet)
        if isinstance(packet, PacketError):
            continue
        again = open_message(raw, packet.survey)
        assert as_text(again.packet()) == as_text(packet)
        head, facts = read_head(again), read_alert(packet).facts
        assert head.alert_id == read_alert(packet).alert_id
        assert head.facts == leading_facts(packet.survey, again.leading())
        assert head.facts == {name: facts.get(name) for name in head.facts}
    return found


def as_text(packet):
    return repr(packet)  # NaN equals itself there


def check(packet, alert, row, file):
    """One alert against its line of the table."""
    assert str(alert.alert_id) == row["alert_id"]
    assert (alert.object_id or "none") == row["object_id"].partition("(")[0]
    assert alert.band == row["trigger_band"]
    assert (alert.ra, alert.dec) == (pytest.approx(float(row["ra"]), abs=1e-6), pytest.approx(float(row["dec"]), abs=1e-6))
    scale, time = row["time"].split()[0], float(row["time"].split()[1])
    if scale == "JD":  # UTC at the start of the exposure; 1 s for the table's five decimals
        exposure = alert.mjd_tai - (time - 2400000.5) - TAI_MINUS_UTC_D
        assert exposure * 86400 == pytest.approx(15, abs=1) or exposure * 86400 == pytest.approx(120, abs=1)
        assert alert.facts["is_positive"] is (row["sign"] in ("t", "1"))
    else:
        assert alert.mjd_tai == pytest.approx(time, abs=1e-5)
    assert alert.facts["magnitude"] == pytest.approx(float(row["mag"]), abs=0.0051)
    if row["rb"]:
        assert alert.reliability == pytest.approx(float(row["rb"]), abs=0.00051)
    cutouts = alert.cutouts
    sizes = "/".join(str(len(c or b"")) for c in (cutouts.science, cutouts.template, cutouts.difference))
    assert sizes == row["cut"].replace("None", "0")
    check_curve(packet.record, alert, row, file)


def check_curve(record, alert, row, file):
    curve = alert.light_curve
    assert curve.mjd_tai[-1] == alert.mjd_tai
    assert curve.kind[-1] == DETECTION
    assert np.all(np.diff(curve.mjd_tai) >= 0)
    assert np.isfinite([curve.mjd_tai, curve.flux_njy, curve.flux_err_njy]).all()
    assert (curve.flux_err_njy > 0).all()
    assert ((curve.band >= 0) & (curve.band < len(BANDS))).all()
    exposures, n_rows = detected_exposures(record)
    assert n_rows == int(row["n_det"])  # the table counts rows, of which a few are of one exposure
    assert curve.n_detections == len(exposures)
    assert sorted(curve.bands_detected) == sorted(row["bands"])
    assert alert.n_detections >= curve.n_detections
    assert np.count_nonzero(curve.kind == FORCED) <= int(row["n_forced"])
    assert np.count_nonzero(curve.kind == UPPER_LIMIT) <= int(row["n_upper"])
    assert set(alert.facts) <= set(FACTS)
    assert all(v is None or not isinstance(v, float) or math.isfinite(v) for v in alert.facts.values())
    assert alert.facts["time_is_plausible"] is (MADE_UP not in str(file) or alert.mjd_tai < 1e6)
    assert alert.first_detection_mjd_tai <= alert.mjd_tai


def detected_exposures(record):
    """Exposures up to the trigger's in which a packet has detections, and the number of all rows of detections."""
    if "candidate" in record:
        rows = [record["candidate"], *(record["prv_candidates"] or ())]
        rows = [r for r in rows if r["magpsf"] is not None and not math.isnan(r["magpsf"])]
        return {(r["jd"], r["fid"]) for r in rows if r["jd"] <= rows[0]["jd"]}, len(rows)
    rows = [record["diaSource"], *(record["prvDiaSources"] or ())]
    known = [r for r in rows if r["midpointMjdTai"] <= rows[0]["midpointMjdTai"]]
    return {(r["visit"], r["detector"]) for r in known}, len(rows)


def check_files(folder, rows, schemas):
    """Reads every file of a table; returns the alerts and the errors by file."""
    by_file = {}
    for row in rows:
        by_file.setdefault(row["file"], []).append(row)
    alerts, errors = [], {}
    for name, lines in by_file.items():
        found = packets_of(folder / name, schemas)
        assert len(found) == len(lines), name
        for packet, row in zip(found, lines):
            if isinstance(packet, PacketError):
                errors[name] = packet
                continue
            alert = read_alert(packet)
            check(packet, alert, row, name)
            alerts.append((name, alert))
    return alerts, errors


def test_packets_of_this_repository_are_read_as_the_table_says():
    alerts, errors = check_files(DATA, table(DATA.parent / "alerts.csv"), rubin_schemas())
    assert len(alerts) == 15
    assert list(errors) == ["516442330015015017.avro"]
    assert {a.schema for _, a in alerts} == {
        "ztf 3.3", "ztf 4.01", "ztf 4.02", "lsst 7.3", "lsst unversioned", "lsst 9.0", "lsst 10.0",
    }  # fmt: skip
    assert sum(a.is_solar_system for _, a in alerts) == 2


def test_mature_packet_is_read_whole():
    packet, _ = next(wire.decode_all((DATA / "fink_transfer_20260305.avro").read_bytes()))
    alert = read_alert(packet)
    curve = alert.light_curve
    assert alert.n_detections == 320
    assert curve.n_detections == 319  # one visit was detected twice
    assert np.count_nonzero(curve.kind == FORCED) == 134  # those at visits without a detection, counted by hand
    assert curve.bands_detected == "griz"
    assert np.isfinite(curve.total_njy).mean() > 0.9
    assert 60 < curve.mjd_tai[-1] - curve.mjd_tai[0] < 80


@needs_shared
def test_all_real_alerts_are_read_and_exactly_the_broken_four_are_not():
    folder = Path(SHARED) / "data" / "alerts"
    rows = table(folder / "manifest.csv")
    assert len(rows) == 493
    alerts, errors = check_files(folder, rows, wire.schema_source(Path(SHARED) / "data" / "schemas"))
    assert len(alerts) == 489
    assert {name: error.reason for name, error in errors.items()} == {
        "broken/121540793515135009.avro": "truncated",
        "broken/516442330015015017.avro": "truncated",
        "broken/516442805615015004.avro": "truncated",
        "broken/test_alerts_Ia_Hsiao_v2_51.avro": "bad_schema",
    }
    versions = {a.schema for _, a in alerts}
    assert {f"ztf {v}" for v in ("3.0", "3.1", "3.2", "3.3", "4.01", "4.02")} <= versions
    assert {f"lsst {v}" for v in ("7.0", "7.1", "7.2", "7.3", "7.4", "8.0", "9.0", "10.0", "11.0", "11.1")} <= versions


@needs_shared
def test_ztf_difference_stamps_have_the_sign_of_the_flux():
    """Stored with the sign of isdiffpos taken out: bright on the centre, whatever the sign."""
    folder = Path(SHARED) / "data" / "alerts" / "ztf"
    right, negative, compared = 0, 0, 0
    for file in sorted(folder.rglob("*.avro")):
        alert = read_alert(wire.decode(file.read_bytes(), "ztf"))
        if alert.cutouts.difference is None:
            continue
        image = read_fits_image(alert.cutouts.difference)[0]
        if image.shape != (63, 63) or not np.isfinite(image[20:43, 20:43]).all():
            continue
        peak = (image[29:34, 29:34].mean() - np.median(image[20:43, 20:43])) * alert.cutouts.to_njy[2]
        right += (peak > 0) == (alert.flux_njy > 0)
        negative += alert.flux_njy < 0
        compared += 1
    assert (compared > 100, negative > 20) == (True, True)
    assert right == compared


@needs_shared
def test_copies_of_one_alert_give_the_same_light_curve():
    """Fink's table of v10.0 and the same alerts put back into Rubin's schema and framing."""
    folder = Path(SHARED) / "data" / "alerts" / "lsst"
    schemas = wire.schema_source(Path(SHARED) / "data" / "schemas")
    tables = {}
    for name in ("rubin_v10_0_a.parquet", "rubin_v10_0_b.parquet"):
        for packet in packets_of(folder / "parquet" / name, None):
            tables.setdefault(packet.record["diaSource"]["diaSourceId"], []).append(read_alert(packet))
    compared = 0
    for file in sorted((folder / "confluent_v10_0_reencoded").glob("*.avro")):
        alert = read_alert(wire.decode(file.read_bytes(), "lsst", schemas))
        for other in tables.get(alert.alert_id, ()):
            compared += 1
            assert (alert.object_id, alert.band, alert.n_detections) == (other.object_id, other.band, other.n_detections)
            for column in alert.light_curve.__dataclass_fields__:
                ours, theirs = getattr(alert.light_curve, column), getattr(other.light_curve, column)
                np.testing.assert_allclose(ours, theirs, rtol=1e-6, err_msg=column)  # table b has doubles of floats
            assert alert.cutouts == other.cutouts
    assert compared >= 25


@needs_shared
def test_copies_that_brokers_changed_beyond_use_say_which_field_is_missing():
    folder = Path(SHARED) / "data" / "alerts" / "brokers"
    found = {}
    for name in ("babamul_ztf_alert.avro", "ampel_lsst_report.avro"):
        with pytest.raises(PacketError) as caught:
            wire.decode((folder / name).read_bytes())
        found[name] = str(caught.value)
    assert found["babamul_ztf_alert.avro"] == "missing_field: ztf schema (BabamulZtfAlert): no field prv_candidates.fid"
    assert found["ampel_lsst_report.avro"].endswith("no field diaSource (lsst) or candidate (ztf)")

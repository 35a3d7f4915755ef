"""BOOM's and Babamul's forms of an alert read as the survey's own packet: what they keep is equal, the rest unknown."""

import io
import math

import boom_forms
import fastavro
import numpy as np
import pytest
from packets import DATA

from dgl_broker import surveys
from dgl_broker.alert import DETECTION
from dgl_broker.errors import PacketError
from dgl_broker.outputs.records import as_json
from dgl_broker.surveys.boom import packet_of_babamul, packet_of_boom
from dgl_broker.wire import decode, decode_all, encode_packet

ZTF = (
    "2475433850315015009.avro",
    "ztf_20250302_programid1_ZTF17aaarzyp_2982177112815010003.v4_02.avro",
    "2752190655615010046.avro",
)
FORMS = {
    "babamul": lambda survey, packet: packet_of_babamul(*boom_forms.babamul(survey, packet)),
    "boom": lambda survey, packet: packet_of_boom(boom_forms.boom(survey, packet)),
}


def whole(name):
    """A packet with every field of its schema."""
    with open(DATA / name, "rb") as file:
        return next(fastavro.reader(file))


def lsst():
    """A real Rubin packet of several hundred points; Fink's copy, whose struct of nulls stands for no solar-system object."""
    return whole("fink_transfer_20260305.avro")


def points(alert):
    """The light curve as rows of band, kind, time, flux, error; by time."""
    c = alert.light_curve
    return np.array(sorted(zip(c.mjd_tai, c.band, c.kind, c.flux_njy, c.flux_err_njy)))


@pytest.mark.parametrize("name", ZTF)
@pytest.mark.parametrize("form", ["babamul", "boom"])
def test_ztf_light_curve_is_that_of_the_packet(name, form):
    """To the rounding of BOOM's float32 magnitudes: 1e-5 of a flux."""
    packet = whole(name)
    there, here = surveys.read_alert(decode((DATA / name).read_bytes())), surveys.read_alert(FORMS[form]("ztf", packet))
    assert (here.alert_id, here.object_id, here.band, here.schema) == (
        there.alert_id,
        there.object_id,
        there.band,
        f"ztf {form}",
    )
    assert here.mjd_tai == pytest.approx(there.mjd_tai, abs=1e-6) and here.flux_njy == pytest.approx(there.flux_njy, rel=1e-5)
    ours, theirs = points(here), points(there)
    assert ours.shape == theirs.shape and len(ours) > 1
    np.testing.assert_array_equal(ours[:, 1:3], theirs[:, 1:3])
    np.testing.assert_allclose(ours[:, 0], theirs[:, 0], atol=1e-6)
    np.testing.assert_allclose(ours[:, 3:], theirs[:, 3:], rtol=2e-5, atol=1e-3)


def test_babamul_keeps_what_the_filters_ask_of_a_ztf_alert():
    packet = whole(ZTF[1])
    there = surveys.read_alert(decode((DATA / ZTF[1]).read_bytes())).facts
    here = surveys.read_alert(packet_of_babamul(*boom_forms.babamul("ztf", packet))).facts
    same = {
        "programid",
        "reliability",
        "is_positive",
        "n_detections",
        "galactic_latitude_deg",
        "star_score",
        "star_separation_arcsec",
    }
    assert {k: here[k] for k in same} == pytest.approx({k: there[k] for k in same})


@pytest.mark.parametrize("form", ["babamul", "boom"])
def test_rubin_detections_are_those_of_the_packet(form):
    packet = lsst()
    there, here = surveys.read_alert(decode_of(packet)), surveys.read_alert(FORMS[form]("lsst", packet))
    assert here.alert_id == there.alert_id > 2**53 and here.object_id == there.object_id
    assert (here.band, here.mjd_tai) == (there.band, pytest.approx(there.mjd_tai, abs=1e-6))
    ours, theirs = (points(a)[points(a)[:, 2] == DETECTION] for a in (here, there))
    assert len(theirs) > 100
    recent = theirs[theirs[:, 0] > there.mjd_tai - 365.0]
    np.testing.assert_allclose(ours[:, 0], recent[:, 0], atol=2e-6)
    np.testing.assert_allclose(ours[:, 3:], recent[:, 3:], rtol=1e-6)


def decode_of(packet):
    """The packet by the survey's own reader."""
    data = (DATA / "fink_transfer_20260305.avro").read_bytes()
    return next(p for p, _ in decode_all(data) if p.record["diaSourceId"] == packet["diaSourceId"])


def test_packet_travels_as_bytes():
    made = packet_of_babamul(*boom_forms.babamul("ztf", whole(ZTF[0])))
    back = decode(encode_packet(made))
    assert as_json(_without_bytes(back.record)) == as_json(_without_bytes(made.record)) and back.survey == "ztf"


def _without_bytes(record):
    return {k: v for k, v in record.items() if not k.startswith("cutout")}


def test_history_after_the_trigger_and_before_the_packets_reach_is_left_out():
    packet = whole(ZTF[0])
    alert, cutouts = boom_forms.babamul("ztf", packet)
    jd = alert["candidate"]["jd"]
    extra = [{**alert["prv_candidates"][-1], "jd": jd + days} for days in (0.5, 3.0, -31.0, -300.0)]
    longer = packet_of_babamul({**alert, "prv_candidates": alert["prv_candidates"] + extra}, cutouts)
    assert longer.record["prv_candidates"] == packet_of_babamul(alert, cutouts).record["prv_candidates"]


@pytest.mark.parametrize(
    "broken",
    [
        {},
        {"candidate": 1},
        {"candidate": {"magpsf": 1.0}},
        {"candidate": None},
        {"candidate": {"magpsf": 1.0}, "prv_candidates": [3]},
    ],
)
def test_what_is_no_alert_of_babamul_is_a_packet_error(broken):
    with pytest.raises(PacketError):
        packet_of_babamul(broken)


@pytest.mark.parametrize("change", [{"survey": "DECAM"}, {"photometry": []}, {"photometry": [{}]}, {"jd": 2.4e6}])
def test_what_is_no_alert_of_boom_is_a_packet_error(change):
    with pytest.raises(PacketError):
        packet_of_boom({**boom_forms.boom("ztf", whole(ZTF[0])), **change})


@pytest.mark.parametrize("odd", [math.inf, -math.inf, math.nan, 1e308])
@pytest.mark.parametrize("name", ["midpointMjdTai", "psfFlux", "psfFluxErr", "ra"])
def test_number_of_a_rubin_alert_that_no_survey_measures_ends_no_consumer(name, odd):
    """Either there is a packet, whose values are judged later, or it is a packet error."""
    alert, cutouts = boom_forms.babamul("lsst", lsst())
    alert["candidate"] = {**alert["candidate"], name: odd}
    _read_or_refused(lambda: packet_of_babamul(alert, cutouts))
    rows = [{**alert["prv_candidates"][0], "jd": odd}, {**alert["prv_candidates"][0], "psfFlux": odd}]
    _read_or_refused(lambda: packet_of_babamul({**alert, "prv_candidates": rows}, cutouts))


@pytest.mark.parametrize("odd", [math.inf, -math.inf, math.nan, 1e308, -1e4, 1e4])
@pytest.mark.parametrize("name", ["zero_point", "flux", "flux_err", "jd"])
@pytest.mark.parametrize("survey", ["ztf", "lsst"])
def test_number_of_boom_that_no_survey_measures_ends_no_consumer(survey, name, odd):
    alert = boom_forms.boom(survey, whole(ZTF[0]) if survey == "ztf" else lsst())
    _read_or_refused(lambda: packet_of_boom({**alert, "photometry": [{**row, name: odd} for row in alert["photometry"]]}))
    _read_or_refused(lambda: packet_of_boom({**alert, "jd": odd}))


def test_infinite_time_and_absurd_zero_point_are_packet_errors():
    alert, cutouts = boom_forms.babamul("lsst", lsst())
    with pytest.raises(PacketError, match="OverflowError") as found:
        packet_of_babamul({**alert, "candidate": {**alert["candidate"], "midpointMjdTai": math.inf}}, cutouts)
    assert found.value.reason == "bad_value"
    alert = boom_forms.boom("ztf", whole(ZTF[0]))
    rows = [{**row, "zero_point": -1e4} for row in alert["photometry"]]
    with pytest.raises(PacketError, match="OverflowError"):
        packet_of_boom({**alert, "photometry": rows})


def _read_or_refused(make):
    try:
        encode_packet(made := make())
        surveys.read_alert(made)
    except PacketError:
        pass


def test_real_alert_of_babamul(shared):
    """The one that could be collected: its trigger's flux is that of its magnitude, 19.7538 in i."""
    with open(shared / "data/alerts/brokers/babamul_ztf_alert.avro", "rb") as file:
        alert = surveys.read_alert(packet_of_babamul(next(fastavro.reader(file))))
    assert (alert.alert_id, alert.band, alert.n_detections) == (3458293962815015016, "i", 65)
    assert alert.flux_njy == pytest.approx(10 ** (0.4 * (31.4 - 19.753803253)), rel=1e-6)
    curve = alert.light_curve
    assert curve.mjd_tai.max() == alert.mjd_tai and curve.mjd_tai.min() > alert.mjd_tai - 31
    # The detection that BOOM's own client makes 18.863 mag, brightest in g, is older than a packet of ZTF reaches.
    assert len(curve) == 53 and alert.cutouts.difference is None


def test_schema_of_boom_is_the_one_that_tests_write():
    out = io.BytesIO()
    fastavro.writer(out, fastavro.parse_schema(boom_forms.BOOM_ALERT), [boom_forms.boom("ztf", whole(ZTF[0]))])
    assert packet_of_boom(next(fastavro.reader(io.BytesIO(out.getvalue())))).survey == "ztf"

import math

import numpy as np
import pytest
from packets import NIGHT_JD, ztf_forced, ztf_limit, ztf_message, ztf_record, ztf_row

from dgl_broker.alert import DETECTION, FORCED, UPPER_LIMIT
from dgl_broker.errors import PacketError
from dgl_broker.surveys import FACTS, read_alert
from dgl_broker.wire import decode, packet_from_record

pytestmark = pytest.mark.usefixtures("decoder")

FLUX_19_MAG = 91201.08  # nJy: 10 ** (0.4 * (31.4 - 19)), by hand
TRIGGER_MJD = 60000.25 + (37 + 15) / 86400  # TAI - UTC in 2023, half of 30 s


def read(record):
    return read_alert(decode(ztf_message(record), "ztf"))


def read_row(record):
    return read_alert(packet_from_record(None, record))


def failure(record):
    with pytest.raises(PacketError) as caught:
        read_row(record)
    return caught.value


def points(alert):
    """(days since the trigger, flux in units of a 19 mag source, kind) of each point."""
    curve = alert.light_curve
    return [
        (round(float(t), 4), round(float(f), 4), int(k))
        for t, f, k in zip(curve.mjd_tai - TRIGGER_MJD, curve.flux_njy / FLUX_19_MAG, curve.kind)
    ]


def test_detection_becomes_nanojansky_at_mid_exposure():
    alert = read(ztf_record())
    assert alert.mjd_tai == pytest.approx(TRIGGER_MJD, abs=1e-9)
    assert alert.flux_njy == pytest.approx(FLUX_19_MAG, rel=1e-6)
    assert alert.flux_err_njy == pytest.approx(FLUX_19_MAG * 0.0921034, rel=1e-6)  # 0.1 mag, to first order
    assert (alert.alert_id, alert.object_id, alert.band) == (2**61 + 1, "ZTF23aaaaaaa", "g")
    assert points(alert) == [(0.0, 1.0, DETECTION)]


@pytest.mark.parametrize("spelling, sign", [("t", 1), ("1", 1), (True, 1), (1, 1), ("f", -1), ("0", -1), (False, -1), (0, -1)])
def test_sign_has_eight_spellings(spelling, sign):
    row = read_row(ztf_record([ztf_row(-1.0, sign=spelling)], isdiffpos=spelling))
    assert points(row) == [(-1.0, sign, DETECTION), (0.0, sign, DETECTION)]
    assert row.facts["is_positive"] is (sign > 0)


@pytest.mark.parametrize("spelling", ["x", "", None, 7])
def test_sign_that_is_none_of_them_is_an_error_in_the_trigger_and_drops_a_row(spelling):
    assert failure(ztf_record(isdiffpos=spelling)).reason == "bad_value"
    alert = read_row(ztf_record([ztf_row(-1.0, sign=spelling), ztf_row(-2.0)]))
    assert len(alert.light_curve) == 2
    assert alert.facts["rows_dropped"] == 1


def test_upper_limit_has_no_flux_and_a_fifth_of_the_limit_as_error():
    alert = read(ztf_record([ztf_limit(-1.0, 20.5), ztf_row(-2.0, 18.0)]))
    assert [kind for *_, kind in points(alert)] == [DETECTION, UPPER_LIMIT, DETECTION]
    assert alert.light_curve.flux_njy[1] == 0.0
    assert alert.light_curve.flux_err_njy[1] == pytest.approx(4581.74, rel=1e-5)  # 10 ** (0.4 * 10.9) / 5
    assert alert.light_curve.n_detections == 2
    assert alert.light_curve.bands_detected == "g"


@pytest.mark.parametrize("nothing", [None, math.nan, -999.0, -99999.0])
def test_upper_limit_without_a_limit_is_dropped(nothing):
    alert = read_row(ztf_record([ztf_limit(-1.0, nothing)]))
    assert (len(alert.light_curve), alert.facts["rows_dropped"]) == (1, 1)


def test_forced_photometry_is_in_counts_of_its_own_zero_point():
    alert = read(ztf_record(forced=[ztf_forced(-5.0, 1000.0), ztf_forced(-4.0, -500.0, fid=2)]))
    np.testing.assert_allclose(alert.light_curve.flux_njy[:2], [109647.82, -54823.91], rtol=1e-6)  # 10 ** (0.4 * 5.1)
    np.testing.assert_allclose(alert.light_curve.flux_err_njy[:2], 50 * 109.64782, rtol=1e-6)
    assert alert.light_curve.kind.tolist() == [FORCED, FORCED, DETECTION]
    assert alert.light_curve.band.tolist() == [1, 2, 1]


@pytest.mark.parametrize(
    "fault",
    [
        {"forcediffimflux": -99999.0, "forcediffimfluxunc": -99999.0, "procstatus": "61"},
        {"forcediffimflux": None},
        {"forcediffimflux": math.nan},
        {"forcediffimfluxunc": 0.0},
        {"forcediffimfluxunc": None},
        {"magzpsci": None},
        {"magzpsci": -999.0},
        {"fid": 4},
        {"jd": math.nan},
    ],
)
def test_forced_point_that_failed_is_dropped_and_counted(fault):
    alert = read(ztf_record(forced=[ztf_forced(-5.0, **fault), ztf_forced(-4.0)]))
    assert (len(alert.light_curve), alert.facts["rows_dropped"]) == (2, 1)


def test_forced_point_with_a_warning_stays():
    assert len(read(ztf_record(forced=[ztf_forced(-5.0, procstatus="56")])).light_curve) == 2


@pytest.mark.parametrize("fault", [{"magpsf": -999.0}, {"sigmapsf": None}, {"sigmapsf": -1.0}, {"fid": 0}, {"jd": math.nan}])
def test_detection_that_makes_no_sense_is_dropped_and_counted(fault):
    alert = read_row(ztf_record([ztf_row(-1.0, **fault), ztf_row(-2.0)]))
    assert (len(alert.light_curve), alert.facts["rows_dropped"]) == (2, 1)


def test_of_one_exposure_a_detection_wins_over_forced_photometry_and_that_over_a_limit():
    prv = [ztf_row(-5.0), ztf_limit(-4.0), ztf_limit(-3.0)]
    kinds = [kind for *_, kind in points(read(ztf_record(prv, [ztf_forced(-5.0), ztf_forced(-4.0)])))]
    assert kinds == [DETECTION, FORCED, UPPER_LIMIT, DETECTION]


def test_rows_of_two_bands_at_one_time_are_two_points():
    assert len(read(ztf_record([ztf_row(-5.0, fid=2)], [ztf_forced(-5.0, fid=1)])).light_curve) == 3


def test_starts_of_an_exposure_that_differ_by_rounding_are_one():
    alert = read(ztf_record([ztf_row(-5.0)], [ztf_forced(-5.0 + 4e-6)]))
    assert len(alert.light_curve) == 2
    next_exposure = read(ztf_record([ztf_row(-5.0)], [ztf_forced(-5.0 + 40 / 86400)]))
    assert len(next_exposure.light_curve) == 3


def test_exposure_detected_twice_counts_once_whatever_the_order():
    rows = [ztf_row(-1.0, 19.5), ztf_row(-1.0, 19.0, sigmapsf=0.05), ztf_row(-1.0, 19.2)]
    for order in ((0, 1, 2), (1, 2, 0), (2, 1, 0)):
        assert points(read(ztf_record([rows[i] for i in order]))) == [(-1.0, 1.0, DETECTION), (0.0, 1.0, DETECTION)]


def test_trigger_in_its_own_history_counts_once():
    assert points(read(ztf_record([ztf_row(0.0, 18.0), ztf_limit(0.0)]))) == [(0.0, 1.0, DETECTION)]


def test_rows_later_than_the_trigger_change_nothing():
    before = read(ztf_record([ztf_row(-1.0)], [ztf_forced(-2.0)]))
    after = read(ztf_record([ztf_row(1.0, 15.0), ztf_row(-1.0), ztf_limit(0.001, None)], [ztf_forced(-2.0), ztf_forced(3.0)]))
    assert points(before) == points(after)
    assert before.facts == after.facts


def test_history_out_of_order_is_sorted():
    alert = read(ztf_record([ztf_row(-1.0), ztf_row(-3.0), ztf_row(-2.0)]))
    assert [t for t, *_ in points(alert)] == [-3.0, -2.0, -1.0, 0.0]


@pytest.mark.parametrize("exposure, half", [(None, 15), (0.0, 15), (30.0, 15), (240.0, 120), (-999.0, 15)])
def test_middle_of_the_exposure(exposure, half):
    mjd = read_row(ztf_record(exptime=exposure)).mjd_tai
    assert (mjd - 60000.25) * 86400 == pytest.approx(37 + half, abs=1e-3)
    assert read_row(ztf_record(exptime=exposure, jdstarthist=NIGHT_JD)).facts["days_since_first"] == 0.0


def test_first_detection_is_what_the_survey_states_and_not_where_the_window_begins():
    alert = read(ztf_record([ztf_row(-3.0)], jdstarthist=NIGHT_JD - 400.0))
    assert alert.mjd_tai - alert.first_detection_mjd_tai == pytest.approx(400.0, abs=1e-6)
    assert alert.facts["days_since_first"] == pytest.approx(400.0, abs=1e-6)


@pytest.mark.parametrize("stated", [None, math.nan, -99999.0, 0.0, NIGHT_JD + 3.0])
def test_first_detection_that_is_not_stated_is_the_earliest_detection(stated):
    alert = read_row(ztf_record([ztf_limit(-9.0), ztf_row(-3.0)], [ztf_forced(-8.0)], jdstarthist=stated))
    assert alert.facts["days_since_first"] == pytest.approx(3.0, abs=1e-6)


def test_detections_are_counted_as_the_survey_does_and_never_less_than_are_seen():
    assert read(ztf_record([ztf_row(-1.0)])).n_detections == 3
    assert read(ztf_record([ztf_row(-d) for d in range(1, 8)])).n_detections == 8
    assert read(ztf_record(ndethist=0)).facts["n_detections"] == 1


def test_schema_3_has_no_forced_photometry_and_old_archives_no_candid_at_the_top():
    record = ztf_record([ztf_row(-1.0)])
    del record["fp_hists"], record["candid"], record["candidate"]["drb"]
    alert = read_row(record)
    assert alert.alert_id == 2**61 + 1
    assert alert.reliability == 0.5  # rb


def test_reliability_without_a_version_is_an_archives_filling():
    record = ztf_record(drb=0.0, rb=0.75)
    assert read_row(record).reliability == 0.0
    record["candidate"]["drbversion"] = ""
    assert read_row(record).reliability == 0.75
    record["candidate"]["drbversion"] = "d6_m7"
    assert read_row(record).reliability == 0.0


def test_candid_that_came_as_a_double_is_taken_from_where_it_is_exact():
    assert read_row(ztf_record(candid=float(2**61 + 1))).alert_id == 2**61 + 1
    assert failure(ztf_record(candid=float(2**61 + 1), top={"candid": None})).reason == "inexact_id"
    prv = ztf_row(-1.0, candid=1.7e18)
    assert len(read_row(ztf_record([prv])).light_curve) == 2


def test_total_flux_is_that_of_the_reference_source_plus_the_difference_where_it_is_the_objects_own():
    near = {"magnr": 18.0, "sigmagnr": 0.02, "distnr": 1.4}  # 1.4 pixels: 1.42 arcsec
    far = {"magnr": 18.0, "sigmagnr": 0.02, "distnr": 1.5}  # pixels: 1.52 arcsec
    forced = [ztf_forced(-5.0, 1000.0, **near), ztf_forced(-4.0, 1000.0, **{**near, "distnr": 1.5})]
    alert = read(ztf_record([ztf_row(-1.0, sign="f", **near), ztf_row(-2.0, **far), ztf_limit(-3.0)], forced, **near))
    reference = 229086.77  # nJy of 18 mag, 10 ** (0.4 * 13.4)
    expected = [reference + 109647.82, np.nan, np.nan, np.nan, reference - FLUX_19_MAG, reference + FLUX_19_MAG]
    np.testing.assert_allclose(alert.light_curve.total_njy, expected, rtol=1e-6)
    error = math.hypot(0.02 * 0.921034 * reference, 0.1 * 0.921034 * FLUX_19_MAG)
    assert alert.light_curve.total_err_njy[-1] == pytest.approx(error, rel=1e-5)
    assert np.isnan(read(ztf_record(magnr=-999.0, distnr=0.1)).light_curve.total_njy[0])


@pytest.mark.parametrize(
    "fault, message",
    [
        ({"fid": 4}, "fid 4, expected 1 (g), 2 (r) or 3 (i)"),
        ({"ra": -1.0}, "ra -1.0, expected 0 to 360 deg"),
        ({"dec": math.nan}, "dec nan, expected -90 to 90 deg"),
        ({"jd": 60000.25}, "jd 60000.25, expected 2.45775e+06 to 2.48807e+06 d"),
        ({"magpsf": -999.0}, "magpsf -999.0, expected -5 to 35 mag"),
        ({"magpsf": None}, "magpsf None, expected -5 to 35 mag"),
        ({"sigmapsf": 0.0}, "sigmapsf 0.0, expected 1e-06 to 100 mag"),
        ({"isdiffpos": "x"}, "isdiffpos 'x', expected t, f, 1 or 0"),
    ],
)
def test_trigger_that_makes_no_sense_is_an_error_with_what_was_found_and_needed(fault, message):
    error = failure(ztf_record(candid=1234, **fault))
    assert (error.reason, error.detail) == ("bad_value", f"ztf 1234: {message}")


def test_facts_of_the_trigger():
    candidate = {"sgscore1": 0.75, "distpsnr1": 1.0, "sgscore2": 0.25, "distpsnr2": 3.0, "sgscore3": 0.125, "distpsnr3": 5.0}
    candidate |= {"sgmag1": 21.5, "srmag1": -999.0, "simag1": 20.0, "szmag1": None, "nbad": 0, "fwhm": 2.0, "distnr": 0.5}
    candidate |= {"magnr": 18.5, "ssdistnr": -999.0, "ssnamenr": "null", "rb": 0.5, "drb": 0.75, "ndethist": 7}
    facts = read(ztf_record(**candidate)).facts
    expected = {
        "survey": "ztf",
        "band": "g",
        "programid": 1,
        "magnitude": 19.0,
        "snr": 10.857362,  # 1 / (0.1 ln(10) / 2.5)
        "is_positive": True,
        "reliability": 0.75,
        "n_detections": 7,
        "star_score": 0.75,
        "star_separation_arcsec": 1.0,
        "host_separation_arcsec": 3.0,
        "ps1_1_g": 21.5,
        "ps1_1_r": None,
        "ps1_1_z": None,
        "ps1_2_star_score": 0.25,
        "ps1_3_separation_arcsec": 5.0,
        "reference_separation_arcsec": 0.506,
        "reference_magnitude": 18.5,
        "solar_system_separation_arcsec": None,
        "psf_fwhm_arcsec": 2.024,
        "n_bad_pixels": 0,
        "time_is_plausible": True,
    }
    for name, value in expected.items():
        assert facts[name] == (pytest.approx(value, rel=1e-5) if isinstance(value, float) else value), name
    assert set(facts) <= set(FACTS)
    nothing = read(ztf_record(sgscore1=-999.0, distpsnr1=-999.0, sgscore2=None, distpsnr3=math.nan)).facts
    for name in ("star_score", "star_separation_arcsec", "host_separation_arcsec", "ps1_3_separation_arcsec"):
        assert nothing[name] is None


@pytest.mark.parametrize("distance, is_asteroid", [(0.0, True), (4.9, True), (5.1, False), (-999.0, False), (None, False)])
def test_known_asteroid_within_5_arcsec_is_the_source(distance, is_asteroid):
    assert read(ztf_record(ssdistnr=distance)).is_solar_system is is_asteroid


def test_stamps_are_handed_on_with_what_a_count_is():
    alert = read(ztf_record())
    assert alert.cutouts.science == alert.cutouts.template == alert.cutouts.difference == b"not opened here"
    science, template, difference = alert.cutouts.to_njy
    assert science == difference == pytest.approx(109.64782, rel=1e-6)
    assert math.isnan(template)
    assert (alert.cutouts.pixel_scale_arcsec, alert.cutouts.full_side) == (1.012, 63)
    assert math.isnan(read(ztf_record(magzpsci=None)).cutouts.to_njy[0])


def test_difference_stamp_of_a_negative_subtraction_is_given_its_sign_back():
    science, _, difference = read(ztf_record(isdiffpos="f")).cutouts.to_njy
    assert difference == -science < 0


def test_place_on_the_readout_quadrant_goes_with_the_stamps():
    assert read_row(ztf_record(xpos=12.5, ypos=3000.0)).cutouts.detector_xy == (12.5, 3000.0)
    assert read(ztf_record()).cutouts.detector_xy is None


@pytest.mark.parametrize("stripped", [None, {"fileName": None, "stampData": None}, {"stampData": b""}])
def test_stamp_that_is_null_in_any_way_is_missing(stripped):
    alert = read_row(ztf_record(top={"cutoutScience": stripped}))
    assert alert.cutouts.science is None
    assert alert.cutouts.difference is not None
    record = ztf_record()
    del record["cutoutScience"], record["cutoutTemplate"], record["cutoutDifference"]
    assert read_row(record).cutouts.difference is None


def test_histories_that_are_null_are_empty():
    assert points(read_row(ztf_record(top={"prv_candidates": None, "fp_hists": None}))) == [(0.0, 1.0, DETECTION)]

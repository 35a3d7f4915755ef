import math

import numpy as np
import pytest
from packets import NIGHT_MJD, Schemas, lsst_forced, lsst_message, lsst_object, lsst_record, lsst_source

from dgl_broker.alert import DETECTION, FORCED
from dgl_broker.errors import PacketError
from dgl_broker.surveys import FACTS, read_alert
from dgl_broker.wire import decode, packet_from_record

pytestmark = pytest.mark.usefixtures("decoder")


def read(record):
    """The alert, by way of bytes and of a table's row, which must agree."""
    alert = read_alert(decode(lsst_message(record), "lsst", Schemas()))
    other = read_row(record)
    assert same_curve(alert.light_curve, other.light_curve, rtol=1e-6)
    assert alert.alert_id == other.alert_id
    return alert


def read_row(record):
    return read_alert(packet_from_record("lsst", record))


def same_curve(a, b, rtol=0.0):
    return all(np.allclose(getattr(a, n), getattr(b, n), rtol=rtol, atol=0, equal_nan=True) for n in a.__dataclass_fields__)


def failure(record):
    with pytest.raises(PacketError) as caught:
        read_row(record)
    return caught.value


def flux_at(alert, days):
    at = np.abs(alert.light_curve.mjd_tai - NIGHT_MJD - days) < 1e-6
    assert np.count_nonzero(at) <= 1
    return alert.light_curve.flux_njy[at].tolist()


def test_first_alert_of_an_object_is_a_light_curve_of_one_point():
    alert = read(lsst_record(dia_object=lsst_object(nDiaSources=1, firstDiaSourceMjdTai=None)))
    assert (alert.alert_id, alert.object_id) == (2**60 + 1, str(2**60 + 9))
    assert (alert.ra, alert.dec, alert.band, alert.mjd_tai) == (150.0, 2.2, "r", NIGHT_MJD)
    assert (alert.flux_njy, alert.flux_err_njy, alert.n_detections) == (1000.0, 50.0, 1)
    assert len(alert.light_curve) == 1
    assert alert.first_detection_mjd_tai == NIGHT_MJD
    assert not alert.is_solar_system


def test_trigger_is_added_to_the_history_and_comes_last():
    alert = read(lsst_record([lsst_source(-2.0, 98), lsst_source(-1.0, 99)]))
    np.testing.assert_allclose(alert.light_curve.mjd_tai - NIGHT_MJD, [-2, -1, 0], atol=1e-9)
    assert alert.light_curve.n_detections == 3


def test_history_out_of_order_is_sorted():
    rows = [lsst_source(-d, 100 - d, flux=100.0 * d) for d in (3, 1, 2)]
    assert read(lsst_record(rows)).light_curve.flux_njy.tolist() == [300.0, 200.0, 100.0, 1000.0]


def test_forced_photometry_of_the_triggers_own_visit_is_the_trigger():
    alert = read(lsst_record(forced=[lsst_forced(0.0, 100, 700.0), lsst_forced(-3.0, 97, 5.0)]))
    assert alert.light_curve.flux_njy.tolist() == [5.0, 1000.0]
    assert alert.light_curve.kind.tolist() == [FORCED, DETECTION]


def test_for_one_visit_and_detector_the_detection_wins():
    alert = read(lsst_record([lsst_source(-3.0, 97, 800.0)], [lsst_forced(-3.0, 97, 700.0), lsst_forced(-4.0, 96, 60.0)]))
    assert flux_at(alert, -3.0) == [800.0]
    assert alert.light_curve.kind.tolist() == [FORCED, DETECTION, DETECTION]


def test_two_detectors_of_one_visit_are_two_points():
    alert = read(lsst_record([lsst_source(-3.0, 97, 800.0), lsst_source(-3.0, 97, 700.0, detector=6)]))
    assert sorted(alert.light_curve.flux_njy.tolist()) == [700.0, 800.0, 1000.0]


def test_visit_detected_twice_counts_once_whatever_the_order():
    rows = [lsst_source(-3.0, 97, 500.0), lsst_source(-3.0, 97, -800.0, diaSourceId=8), lsst_source(-3.0, 97, 600.0)]
    curves = [read(lsst_record([rows[i] for i in order])).light_curve for order in ((0, 1, 2), (2, 1, 0), (1, 2, 0))]
    assert [c.flux_njy.tolist() for c in curves] == [[-800.0, 1000.0]] * 3  # the most significant


def test_trigger_in_its_own_history_counts_once():
    alert = read(lsst_record([lsst_source(0.0, 100, 990.0), lsst_source(-1.0, 99)]))
    assert alert.light_curve.flux_njy.tolist() == [1000.0, 1000.0]
    assert len(alert.light_curve) == 2


def test_rows_later_than_the_trigger_change_nothing():
    before = read(lsst_record([lsst_source(-1.0, 99)], [lsst_forced(-2.0, 98)]))
    later = [lsst_source(0.01, 101, 5000.0), lsst_source(30.0, 130, math.nan), lsst_source(-1.0, 99)]
    after = read(lsst_record(later, [lsst_forced(-2.0, 98), lsst_forced(2.0, 102), lsst_forced(3.0, 103, band="?")]))
    assert same_curve(before.light_curve, after.light_curve)
    assert before.facts == after.facts


def test_rows_processed_after_the_trigger_were_not_known_and_change_nothing():
    before = read(lsst_record([lsst_source(-1.0, 99)]))
    late = {"timeProcessedMjdTai": NIGHT_MJD + 0.0021}
    rows = [lsst_source(-1.0, 99), lsst_source(-5.0, 95, **late)]
    after = read(lsst_record(rows, [lsst_forced(-3.0, 97, **late), lsst_forced(0.0, 100, **late)]))
    assert same_curve(before.light_curve, after.light_curve)
    assert before.facts == after.facts


def test_withdrawn_rows_are_dropped_and_counted():
    rows = [lsst_source(-1.0, 99, timeWithdrawnMjdTai=NIGHT_MJD - 0.5), lsst_source(-2.0, 98, timeWithdrawnMjdTai=math.nan)]
    forced = [lsst_forced(-3.0, 97, timeWithdrawnMjdTai=NIGHT_MJD + 9), lsst_forced(-4.0, 96, timeWithdrawnMjdTai=0.0)]
    alert = read(lsst_record(rows, forced))
    np.testing.assert_allclose(alert.light_curve.mjd_tai - NIGHT_MJD, [-4, -2, 0], atol=1e-9)
    assert alert.facts["rows_dropped"] == 2
    assert alert.facts["is_withdrawn"] is False


@pytest.mark.parametrize(
    "fault",
    [
        {"psfFlux": None},
        {"psfFlux": math.nan},
        {"psfFlux": math.inf},
        {"psfFluxErr": None},
        {"psfFluxErr": 0.0},
        {"psfFluxErr": -1.0},
        {"band": None},
        {"band": "w"},
        {"midpointMjdTai": math.nan},
    ],
)
def test_unusable_row_is_dropped_and_counted(fault):
    alert = read(lsst_record([lsst_source(-1.0, 99, **fault), lsst_source(-2.0, 98)]))
    assert len(alert.light_curve) == 2
    assert alert.facts["rows_dropped"] == 1
    assert np.isfinite(alert.light_curve.flux_njy).all()


def test_sign_is_that_of_the_flux_whatever_the_flag_says():
    alert = read(lsst_record([lsst_source(-1.0, 99, -300.0, isNegative=False)], psfFlux=400.0, isNegative=True))
    assert alert.light_curve.flux_njy.tolist() == [-300.0, 400.0]
    assert alert.facts["is_positive"] is True
    assert read(lsst_record(psfFlux=-400.0, isNegative=False)).facts["is_positive"] is False


def test_first_detection_is_what_the_survey_states_and_not_where_the_window_begins():
    alert = read(lsst_record([lsst_source(-3.0, 97)]))
    assert alert.first_detection_mjd_tai == NIGHT_MJD - 20.0
    assert alert.facts["days_since_first"] == pytest.approx(20.0)


@pytest.mark.parametrize("stated", [None, math.nan, 0.0, -999.0, NIGHT_MJD + 5.0])
def test_first_detection_that_is_not_stated_is_the_earliest_detection(stated):
    record = lsst_record([lsst_source(-3.0, 97)], [lsst_forced(-9.0, 91)], lsst_object(firstDiaSourceMjdTai=stated))
    assert read(record).first_detection_mjd_tai == NIGHT_MJD - 3.0


def test_detections_are_counted_as_the_survey_does_and_never_less_than_are_seen():
    assert read(lsst_record([lsst_source(-1.0, 99)])).n_detections == 4
    seen_more = read(lsst_record([lsst_source(-d, 100 - d) for d in range(1, 9)]))
    assert seen_more.n_detections == 9
    assert seen_more.facts["n_detections"] == 4
    unstated = read_row(lsst_record([lsst_source(-1.0, 99)], dia_object={"diaObjectId": 5}))
    assert unstated.facts["n_detections"] == unstated.n_detections == 2


def test_ids_beyond_2_to_53_are_exact():
    for number in (2**53 + 1, 2**60 + 1, 2**63 - 1, 169813007334899715):
        alert = read(lsst_record(diaSourceId=number, diaObjectId=number - 1))
        assert (alert.alert_id, alert.object_id) == (number, str(number - 1))


def test_id_that_came_as_a_double_is_taken_from_where_it_is_exact():
    number = 2**60 + 1
    alert = read_row(lsst_record(diaSourceId=float(number), top={"diaSourceId": number}))
    assert alert.alert_id == number
    error = failure(lsst_record(diaSourceId=float(number), top={"diaSourceId": None}))
    assert error.reason == "inexact_id"
    assert "diaSourceId 1.152921504606847e+18, expected an exact 64-bit id" in error.detail
    assert read_row(lsst_record(diaSourceId=float(2**53), top={"diaSourceId": None})).alert_id == 2**53


def test_object_id_that_came_as_a_double_is_exact_or_none():
    number = 2**60 + 9
    assert read_row(lsst_record(diaObjectId=float(number))).object_id == str(number)
    inexact = lsst_object(diaObjectId=float(number))
    assert read_row(lsst_record(dia_object=inexact)).object_id == str(number)
    assert read_row(lsst_record(dia_object=inexact, diaObjectId=float(number))).object_id is None


@pytest.mark.parametrize("nothing", [None, 0, math.nan])
def test_null_zero_and_nan_are_no_object(nothing):
    assert read_row(lsst_record(diaObjectId=nothing)).object_id is None


@pytest.mark.parametrize("stars", ["null", "struct of nulls"])
def test_solar_system_object_has_no_object(stars):
    record = lsst_record(ssObjectId=21163620284315971, diaObjectId=None if stars == "null" else 0)
    record["diaObject"] = None if stars == "null" else dict.fromkeys(lsst_object())
    record["prvDiaForcedSources"] = None
    alert = read_row(record)
    assert alert.is_solar_system
    assert alert.object_id is None
    assert (alert.n_detections, len(alert.light_curve)) == (1, 1)


@pytest.mark.parametrize("nothing", [None, 0, math.nan])
def test_null_zero_and_nan_are_no_solar_system_object(nothing):
    assert not read_row(lsst_record(ssObjectId=nothing)).is_solar_system


def test_total_flux_is_the_visits():
    alert = read(lsst_record([lsst_source(-1.0, 99, scienceFlux=None)], scienceFlux=4000.0, scienceFluxErr=70.0))
    np.testing.assert_array_equal(alert.light_curve.total_njy, [np.nan, 4000.0])
    np.testing.assert_array_equal(alert.light_curve.total_err_njy, [np.nan, 70.0])


@pytest.mark.parametrize(
    "fault, message",
    [
        ({"band": "w"}, "lsst 1152921504606846977: band 'w', expected one of u g r i z y"),
        ({"band": None}, "lsst 1152921504606846977: band None, expected one of u g r i z y"),
        ({"ra": 361.0}, "lsst 1152921504606846977: ra 361.0, expected 0 to 360 deg"),
        ({"ra": None}, "lsst 1152921504606846977: ra None, expected 0 to 360 deg"),
        ({"dec": -90.5}, "lsst 1152921504606846977: dec -90.5, expected -90 to 90 deg"),
        ({"midpointMjdTai": math.nan}, "lsst 1152921504606846977: midpointMjdTai nan, expected 0 to 1e+12 d"),
        ({"psfFlux": math.nan}, "lsst 1152921504606846977: psfFlux nan, expected -1e+15 to 1e+15 nJy"),
        ({"psfFluxErr": 0.0}, "lsst 1152921504606846977: psfFluxErr 0.0, expected 1e-06 to 1e+15 nJy"),
    ],
)
def test_trigger_that_makes_no_sense_is_an_error_with_what_was_found_and_needed(fault, message):
    error = failure(lsst_record(**fault))
    assert (error.reason, error.detail) == ("bad_value", message)


def test_row_of_a_table_without_a_needed_column_names_it():
    record = lsst_record([lsst_source(-1.0, 99)])
    del record["prvDiaSources"][0]["band"]
    error = failure(record)
    assert (error.reason, error.detail) == ("missing_field", "lsst row: no field prvDiaSources.band")
    assert failure({"object": 1}).detail.startswith("row: no column diaSource (lsst) or candidate (ztf); there are ['object']")
    record = lsst_record()
    record["diaSource"] = "text"
    assert failure(record).detail == "lsst row: diaSource is 'text', expected record"


def test_time_of_made_up_packets_is_marked_and_not_fatal():
    alert = read_row(lsst_record(midpointMjdTai=1480360995.0))  # as Rubin's made-up packets of schema 7 have it
    assert alert.facts["time_is_plausible"] is False
    assert read(lsst_record()).facts["time_is_plausible"] is True


def test_facts_of_the_trigger():
    source = {"reliability": 0.25, "extendedness": math.nan, "isDipole": False, "pixelFlags": True, "pixelFlags_injected": None}
    source |= {"ixxPSF": 0.12, "iyyPSF": 0.14, "templateFlux": 3000.0, "templateFluxErr": 9.0, "scienceFlux": 4000.0}
    facts = read(lsst_record(**source)).facts
    expected = {
        "survey": "lsst",
        "band": "r",
        "magnitude": 23.9,  # 1 uJy
        "snr": 20.0,
        "is_positive": True,
        "reliability": 0.25,
        "extendedness": None,
        "is_dipole": False,
        "has_pixel_flags": True,
        "is_injected": None,
        "psf_fwhm_arcsec": 0.84905,  # 2.35482 sqrt(0.13), by hand
        "template_flux_njy": 3000.0,
        "template_flux_err_njy": 9.0,
        "science_flux_njy": 4000.0,
        "science_flux_err_njy": None,
        "processed_mjd_tai": NIGHT_MJD + 0.002,
        "brightest_magnitude": 23.9,
    }
    for name, value in expected.items():
        assert facts[name] == (pytest.approx(value, rel=1e-4) if isinstance(value, float) else value), name
    assert set(facts) <= set(FACTS)
    assert "star_score" not in facts  # the extent of a difference source says nothing of its host


def test_mean_fluxes_of_the_object_are_facts():
    facts = read(lsst_record(dia_object=lsst_object(g_scienceFluxMean=123.0, i_scienceFluxMean=math.nan))).facts
    assert facts["g_science_flux_mean_njy"] == 123.0
    assert facts["i_science_flux_mean_njy"] is None


@pytest.mark.parametrize(
    "zphot, error, star, expected",
    [
        (0.3, 0.05, 0.1, 0.3),
        (2.524, 0.636, 0.0, None),
        (0.096, 0.049, 0.858, None),
        (None, None, None, None),
        (-99, 1, 0, None),
    ],
)
def test_host_redshift_is_what_fink_found_where_it_is_known_well(zphot, error, star, expected):
    matched = {"legacydr8_zphot": zphot, "legacydr8_e_zphot": error, "legacydr8_pstar": star, "vsx_Type": "x"}
    assert read_row(lsst_record(top={"xm": matched})).facts["host_redshift"] == expected
    assert read(lsst_record()).facts["host_redshift"] is None


def test_brightest_magnitude_is_of_positive_detections_up_to_the_trigger():
    rows = [lsst_source(-1.0, 99, 10000.0), lsst_source(-2.0, 98, -1e6), lsst_source(1.0, 101, 1e7)]
    alert = read(lsst_record(rows, [lsst_forced(-3.0, 97, 1e6)]))
    assert alert.facts["brightest_magnitude"] == pytest.approx(21.4)  # 10 uJy
    assert read(lsst_record(psfFlux=-1000.0)).facts["brightest_magnitude"] is None


def test_stamps_are_handed_on_as_they_are():
    cutouts = read(lsst_record()).cutouts
    assert (cutouts.science, cutouts.template, cutouts.difference) == (b"science", b"template", b"difference")
    assert cutouts.to_njy == (1.0, 1.0, 1.0)
    assert cutouts.pixel_scale_arcsec is None
    stripped = read(lsst_record(top={"cutoutScience": None, "cutoutTemplate": b""})).cutouts
    assert (stripped.science, stripped.template) == (None, None)


def test_columns_that_a_broker_left_out_are_unknown():
    record = lsst_record([lsst_source(-1.0, 99)])
    for row in (record["diaSource"], *record["prvDiaSources"]):
        for name in ("timeProcessedMjdTai", "timeWithdrawnMjdTai", "scienceFlux", "reliability", "ixxPSF"):
            del row[name]
    for name in ("cutoutScience", "cutoutTemplate", "cutoutDifference", "diaSourceId"):
        del record[name]
    alert = read_row(record)
    assert alert.cutouts.science is None
    assert alert.reliability is None
    assert len(alert.light_curve) == 2


def test_rows_that_are_null_are_passed_over():
    record = lsst_record([None, lsst_source(-1.0, 99)])
    assert len(read_row(record).light_curve) == 2

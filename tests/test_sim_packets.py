"""Whole packets: what they hold, and that their stamps, rows and labels belong together."""

import csv
import gzip
import io

import fastavro
import numpy as np
import pytest
from astropy.io import fits
from astropy.wcs import WCS
from scipy.ndimage import shift
from sim_toys import PEAK_MJD, Steady, system

from dgl_broker.cli import main
from dgl_broker.errors import ConfigError
from dgl_broker.sim.identity import unique_id, ztf_object_name
from dgl_broker.sim.packets import LABEL_COLUMNS, simulate_packets
from dgl_broker.surveys.lsst.write import lsst_writer


@pytest.fixture(autouse=True, scope="module")
def built_in_cadence():
    """The model's cadence, whatever data are at hand: the systems here were chosen with it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("DGL_SIM_DATA", raising=False)
        yield


def _lsst(alert):
    return fastavro.schemaless_reader(io.BytesIO(alert.value[5:]), lsst_writer().schema)


def _planes(stamp):
    with fits.open(io.BytesIO(stamp)) as planes:
        return [np.array(p.data, float) for p in planes], planes[0].header.copy()


def _moved_psf(psf, header, side):
    """The PSF plane moved to the source's place in a stamp, by spline shift: independent of the simulator's profile."""
    border = 21
    wide = np.zeros((side + 2 * border,) * 2)
    first = (wide.shape[0] - psf.shape[0]) // 2
    wide[first : first + psf.shape[0], first : first + psf.shape[1]] = psf
    at = np.array([header["CRPIX2"], header["CRPIX1"]]) - 1 + border - (first + psf.shape[0] // 2)
    return shift(wide, at, order=3)[border:-border, border:-border]


@pytest.fixture(scope="module")
def lsst_records():
    systems = [system(index=i, places=((0.8, 0.3),), peaks_njy=9000.0) for i in range(6)]
    return [_lsst(a) for s in systems for a in simulate_packets(s, "lsst")]


def test_psf_flux_and_error_are_recovered_from_the_stamps(lsst_records):
    assert len(lsst_records) > 40
    flux_pull, science_pull, error_ratio = [], [], []
    for record in lsst_records:
        source = record["diaSource"]
        (image, variance, psf), header = _planes(record["cutoutDifference"])
        (science, _, _), _ = _planes(record["cutoutScience"])
        p = _moved_psf(psf, header, len(image))
        norm = np.sum(p * p)
        flux_pull.append((np.sum(image * p) / norm - source["psfFlux"]) / source["psfFluxErr"])
        science_pull.append((np.sum(science * p) / norm - source["scienceFlux"]) / source["psfFluxErr"])
        error_ratio.append(np.sqrt(np.sum(p * p * variance)) / norm / source["psfFluxErr"])
    # A spline shift of a 3-px PSF is good to a per cent of the flux, so to 0.3 sigma for the brightest here.
    assert np.max(np.abs(flux_pull)) < 0.3 and np.std(flux_pull) < 0.06
    assert np.std(science_pull) < 0.3
    assert np.median(error_ratio) == pytest.approx(1.0, abs=0.01)
    assert np.percentile(np.abs(np.array(error_ratio) - 1), 95) < 0.05


def test_variance_plane_is_the_variance_of_the_sky(lsst_records):
    pulls = []
    for record in lsst_records:
        (image, variance, _), _ = _planes(record["cutoutDifference"])
        pulls.append((image / np.sqrt(variance))[[0, 1, 2, -3, -2, -1]].ravel())
    assert np.var(np.concatenate(pulls)) == pytest.approx(1.0, abs=0.05)


def test_stamp_wcs_puts_the_source_at_its_place(lsst_records):
    angles = set()
    for record in lsst_records[:20]:
        (image, _, _), header = _planes(record["cutoutScience"])
        header["CTYPE1"], header["CTYPE2"] = "RA---TAN", "DEC--TAN"
        wcs = WCS(header)
        ra, dec = wcs.all_pix2world(header["CRPIX1"], header["CRPIX2"], 1)
        assert (ra, dec) == pytest.approx((record["diaSource"]["ra"], record["diaSource"]["dec"]), abs=1e-9)
        # Half a pixel and the oddness of the side away from the middle at most, as in real stamps.
        assert abs(header["CRPIX1"] - (len(image) + 1) / 2) <= 0.51
        x, y = record["diaSource"]["x"], record["diaSource"]["y"]
        assert (x - header["CRPIX1"], y - header["CRPIX2"]) == pytest.approx((header["CUTMINX"], header["CUTMINY"]), abs=1e-2)
        angles.add(round(float(np.degrees(np.arctan2(header["PC2_1"], header["PC1_1"])))))
    assert len(angles) > 5


def test_stamps_have_north_and_east_where_the_matrix_says():
    # A transient at the centre, a bright galaxy 1.6" east, a fainter one 1.6" north of it: no symmetry left.
    scene = ((1.6, 0.0, 400000.0, 0.15), (0.0, 1.6, 150000.0, 0.15))
    alerts = simulate_packets(system(places=((0.0, 0.0),), galaxies=scene, peaks_njy=6000.0), "lsst")
    assert len(alerts) > 5
    for alert in alerts[:8]:
        record = _lsst(alert)
        (image, _, _), header = _planes(record["cutoutTemplate"])
        header["CTYPE1"], header["CTYPE2"] = "RA---TAN", "DEC--TAN"
        found = []
        for east, north in ((1.6, 0.0), (0.0, 1.6)):
            ra = 150.0 + east / 3600 / np.cos(np.radians(-30.0))
            x, y = WCS(header).all_world2pix(ra, -30.0 + north / 3600, 0)
            row, column = int(round(float(y))), int(round(float(x)))
            box = image[row - 2 : row + 3, column - 2 : column + 3]
            assert np.unravel_index(np.argmax(box), box.shape) == pytest.approx((2, 2), abs=1)
            found.append(box.sum())
        assert found[0] > 1.8 * found[1]


def test_history_ends_before_the_trigger_and_forced_photometry_at_it():
    for index in range(8):
        for alert in simulate_packets(system(index=index), "lsst"):
            record = _lsst(alert)
            source = record["diaSource"]
            now, first = source["midpointMjdTai"], now_or_first(record)
            for row in record["prvDiaSources"] or []:
                assert now - 365.25 <= row["midpointMjdTai"] < now
                assert row["diaObjectId"] == source["diaObjectId"]
            forced = record["prvDiaForcedSources"]
            for row in forced:
                assert row["midpointMjdTai"] <= now and row["timeProcessedMjdTai"] <= now + 0.01
                assert row["midpointMjdTai"] >= first - 30.0
            if forced:
                assert (source["visit"], source["detector"]) in {(r["visit"], r["detector"]) for r in forced}
                same = next(r for r in forced if r["visit"] == source["visit"])
                # One noise for both: the places differ by the centroid's error alone.
                assert abs(same["psfFlux"] - source["psfFlux"]) < 1.5 * source["psfFluxErr"]


def now_or_first(record):
    """Time of the object's first detection, from its rows."""
    rows = (record["prvDiaSources"] or []) + [record["diaSource"]]
    return min(r["midpointMjdTai"] for r in rows)


def test_precovery_comes_a_day_after_the_first_detection():
    before = []
    for index in range(12):
        for alert in simulate_packets(system(index=index), "lsst")[:4]:
            record = _lsst(alert)
            first = now_or_first(record)
            early = [r for r in record["prvDiaForcedSources"] if r["midpointMjdTai"] < first - 1e-6]
            if alert.mjd_tai < first + 1.0:
                assert not early
            before.append(bool(early))
    assert any(before) and not all(before)


def test_history_of_a_long_lived_object_reaches_back_a_year():
    old = system(variability=Steady(((0.2, 0.1),), 0.0, 20000.0), active_days=(-40.0, 1000.0))
    alert = simulate_packets(old, "lsst")[-1]
    assert alert.labels["days_since_first"] > 400
    record = _lsst(alert)
    times = [r["midpointMjdTai"] for r in record["prvDiaSources"] + record["prvDiaForcedSources"]]
    assert 200 < alert.mjd_tai - min(times) <= 365.25
    assert record["diaObject"]["nDiaSources"] == alert.labels["n_detections"] > len(record["prvDiaSources"]) + 1


def test_every_packet_can_be_made_again_alone():
    chosen = system(index=3, places=((0.9, 0.2), (-0.7, 0.1)), peaks_njy=(15000.0, 9000.0))
    once = [a.value for a in simulate_packets(chosen, "lsst")]
    again = simulate_packets(system(index=3, places=((0.9, 0.2), (-0.7, 0.1)), peaks_njy=(15000.0, 9000.0)), "lsst")
    assert [a.value for a in reversed(again)][::-1] == once
    other = simulate_packets(system(index=4, places=((0.9, 0.2), (-0.7, 0.1)), peaks_njy=(15000.0, 9000.0)), "lsst")
    assert not set(once) & {a.value for a in other}


def test_images_of_one_visit_share_pixels():
    wide = system(places=((1.3, 0.0), (-1.1, 0.3)), peaks_njy=20000.0)
    by_time = {}
    for alert in simulate_packets(wide, "lsst"):
        by_time.setdefault(alert.mjd_tai, []).append(alert)
    pair = next(a for a in by_time.values() if len(a) == 2)
    assert pair[0].object_id != pair[1].object_id
    (one, _, _), first = _planes(_lsst(pair[0])["cutoutDifference"])
    (two, _, _), second = _planes(_lsst(pair[1])["cutoutDifference"])
    dx, dy = second["CUTMINX"] - first["CUTMINX"], second["CUTMINY"] - first["CUTMINY"]
    rows, columns = slice(max(dy, 0), 30 + min(dy, 0)), slice(max(dx, 0), 30 + min(dx, 0))
    theirs = slice(max(-dy, 0), 30 + min(-dy, 0)), slice(max(-dx, 0), 30 + min(-dx, 0))
    assert np.array_equal(one[rows, columns], two[theirs])


def test_labels_say_what_the_packets_hold():
    for alert in simulate_packets(system(index=2), "lsst"):
        assert tuple(alert.labels) == LABEL_COLUMNS
        record = _lsst(alert)
        assert str(record["diaSource"]["diaObjectId"]) == alert.object_id
        assert record["diaSourceId"] == alert.alert_id > 2**53
        assert len(record["prvDiaSources"] or []) == alert.labels["n_detections"] - 1
        assert alert.labels["snr"] == pytest.approx(
            abs(record["diaSource"]["psfFlux"]) / record["diaSource"]["psfFluxErr"], rel=1e-5
        )
        assert alert.labels["class"] == "no_lens" and alert.labels["z_lens"] is None


@pytest.mark.parametrize("kind", ["cosmic_ray", "bad_column", "dipole", "bad_subtraction"])
def test_artefacts_are_peaks_of_the_difference_image(kind):
    name = "lens_bad_subtraction" if kind == "bad_subtraction" else kind
    flux = 250000.0 if kind in ("dipole", "bad_subtraction") else 20000.0
    alerts = [
        a
        for i in range(12)
        for a in simulate_packets(
            system(index=i, kind=name, artefact=kind, places=(), galaxies=((0.0, 0.0, flux, 0.35),)), "lsst"
        )
    ]
    assert len(alerts) >= 6
    for alert in alerts:
        record = _lsst(alert)
        (image, variance, psf), header = _planes(record["cutoutDifference"])
        p = _moved_psf(psf, header, len(image))
        flux = np.sum(image * p) / np.sum(p * p)
        assert abs(record["diaSource"]["psfFlux"]) / record["diaSource"]["psfFluxErr"] > 5
        assert flux == pytest.approx(record["diaSource"]["psfFlux"], abs=record["diaSource"]["psfFluxErr"])
        (template, template_variance, _), _ = _planes(record["cutoutTemplate"])
        if kind in ("cosmic_ray", "bad_column"):
            deep = np.sum(template * p) / np.sum(p * p)
            assert deep < 20000.0 + 5 * record["diaSource"]["psfFluxErr"]  # nothing of it in the template


def test_ids_are_unique_and_beyond_a_floats_reach():
    ids = {unique_id(seed, index, item) for seed in (1, 2) for index in range(300) for item in range(0, 4000, 40)}
    assert len(ids) == 2 * 300 * 100
    assert min(ids) >= 2**62 and max(ids) < 2**63
    names = {ztf_object_name(1, index, number, 2024) for index in range(2000) for number in range(4)}
    assert len(names) == 8000 and all(len(n) == 12 and n.startswith("ZTF24") for n in names)
    with pytest.raises(ValueError, match="index|system"):
        unique_id(1, 1 << 26, 0)


def test_no_visits_and_no_detections_give_no_alerts():
    assert simulate_packets(system(active_days=(-300.0, -299.0)), "lsst") == []
    assert simulate_packets(system(peaks_njy=10.0), "lsst") == []
    assert simulate_packets(system(reference_mjd_tai=PEAK_MJD + 2000), "lsst") == []  # long after the burst


# ZTF


def _ztf(alert):
    return next(fastavro.reader(io.BytesIO(alert.value)))


def _pixels(stamp):
    raw = gzip.decompress(stamp["stampData"])
    cards = fits.Header.fromstring(raw[80:2880].decode())  # without SIMPLE, which ZTF writes in free format
    shape = cards["NAXIS2"], cards["NAXIS1"]
    return np.frombuffer(raw[2880:], ">f4", shape[0] * shape[1]).reshape(shape).astype(float)


@pytest.fixture(scope="module")
def ztf_records():
    bright = [system(index=i, peaks_njy=250000.0, galaxies=((0.0, 0.0, 200000.0, 0.8),)) for i in range(3)]
    return [_ztf(a) for s in bright for a in simulate_packets(s, "ztf")]


def test_ztf_magnitude_is_that_of_the_difference_stamp(ztf_records):
    assert len(ztf_records) > 50
    ratio = []
    for record in ztf_records:
        if record["cutoutDifference"] is None:
            continue
        pixels = _pixels(record["cutoutDifference"])
        if pixels.shape != (63, 63) or not np.isfinite(pixels).all() or record["candidate"]["sigmapsf"] > 0.05:
            continue
        flux = 10 ** (0.4 * (record["candidate"]["magzpsci"] - record["candidate"]["magpsf"]))
        ratio.append(pixels[31 - 8 : 31 + 9, 31 - 8 : 31 + 9].sum() / flux)
    # 17 x 17 px hold 97 to 99.9 % of a Moffat of FWHM 2 to 3 px; noise of 290 px is 0.15 of a flux of S/N 20.
    assert len(ratio) > 20 and np.median(ratio) == pytest.approx(0.985, abs=0.03)


def test_ztf_stamps_keep_sky_and_zero_point(ztf_records):
    for record in ztf_records[:20]:
        science, template, difference = (_pixels(record[f"cutout{n}"]) for n in ("Science", "Template", "Difference"))
        sky = np.nanmedian(science)
        assert 30 < sky < 2000 and np.nanmedian(template) == pytest.approx(sky, rel=0.05)
        assert abs(np.nanmedian(difference)) < 3
        noise = 1.4826 * np.nanmedian(np.abs(difference - np.nanmedian(difference)))
        limit = 10 ** (0.4 * (record["candidate"]["magzpsci"] - record["candidate"]["diffmaglim"])) / 5
        # In real packets stated limits are 1.5 to 2 times those of the pixels (noise area of 10 to 25 px).
        assert 2.2 < limit / noise < 16


def test_ztf_negative_subtraction_has_a_positive_stamp_and_the_spelling_f():
    fading = system(variability=Steady(((0.3, 0.2),), 400000.0, 100000.0))
    alerts = simulate_packets(fading, "ztf")
    assert len(alerts) > 5
    spellings = set()
    for alert in alerts:
        record = _ztf(alert)
        assert record["candidate"]["isdiffpos"] == "f"
        assert np.nansum(_pixels(record["cutoutDifference"])[24:39, 24:39]) > 0
        spellings |= {r["isdiffpos"] for r in record["prv_candidates"] or [] if r["magpsf"] is not None}
        for row in record["fp_hists"] or []:
            if row["forcediffimflux"] > -99000 and row["jd"] > alerts[0].mjd_tai + 2400000.5:
                assert row["forcediffimflux"] < 0
    assert "f" in spellings and spellings <= {"f", "0"}


def test_ztf_source_stands_where_the_neighbours_say():
    # Stamp rows grow south and columns west (real packets: nearest reference sources stand there): a galaxy 12" east, 6" north.
    scene = ((12.0, 6.0, 3e6, 0.3),)
    found = []
    for alert in simulate_packets(system(places=((0.0, 0.0),), galaxies=scene, peaks_njy=300000.0), "ztf")[:12]:
        template = _pixels(_ztf(alert)["cutoutTemplate"])
        if template.shape == (63, 63) and np.isfinite(template).all():
            found.append(np.unravel_index(np.argmax(template), template.shape))
    assert len(found) > 3
    # 1.012" a pixel; the trigger is on the middle pixel to half a pixel.
    assert np.allclose(found, [31 - 6 / 1.012, 31 - 12 / 1.012], atol=1.1)


def test_ztf_history_is_of_thirty_days_and_never_of_the_trigger(ztf_records):
    limits = detections = 0
    for record in ztf_records:
        now = record["candidate"]["jd"]
        rows = record["prv_candidates"] or []
        assert [r["jd"] for r in rows] == sorted(r["jd"] for r in rows)
        for row in rows:
            assert now - 30 <= row["jd"] < now
            if row["magpsf"] is None:
                limits += 1
                assert all(row[n] is None for n in ("candid", "isdiffpos", "ra", "rb")) and row["diffmaglim"] > 15
            else:
                detections += 1
                assert row["candid"] > 2**62 and row["candid"] != record["candid"]
        for row in record["fp_hists"] or []:
            assert now - 30 <= row["jd"] <= now - 0.95
        assert len(record["fp_hists"] or []) <= 21
    assert limits > 50 and detections > 200


def test_ztf_forced_photometry_has_sentinels_and_agrees_with_detections(ztf_records):
    pulls, failed, total = [], 0, 0
    for record in ztf_records:
        rows = {r["pid"]: r for r in record["fp_hists"] or []}
        total += len(rows)
        failed += sum(r["forcediffimflux"] < -99000 for r in rows.values())
        for row in record["prv_candidates"] or []:
            forced = rows.get(row["pid"])
            if row["magpsf"] is None or forced is None or forced["forcediffimflux"] < -99000:
                continue
            flux = 10 ** (0.4 * (row["magzpsci"] - row["magpsf"]))
            pulls.append((flux - forced["forcediffimflux"]) / forced["forcediffimfluxunc"])
        for row in rows.values():
            assert (row["forcediffimflux"] < -99000) == (row["procstatus"] == "61")
    assert 0.1 < failed / total < 0.9
    assert len(pulls) > 50 and np.median(np.abs(pulls)) < 0.5  # the same image noise in both


def test_ztf_object_counts_and_first_detection(ztf_records):
    by_object = {}
    for record in ztf_records:
        by_object.setdefault(record["objectId"], []).append(record["candidate"])
    for candidates in by_object.values():
        assert [c["ndethist"] for c in candidates] == list(range(1, len(candidates) + 1))
        assert {c["jdstarthist"] for c in candidates} == {candidates[0]["jd"]}
        assert all(c["ncovhist"] >= c["ndethist"] and c["jdendhist"] == c["jd"] for c in candidates)


def test_ztf_catalogue_neighbour_is_the_systems(ztf_records):
    for record in ztf_records[:10]:
        c = record["candidate"]
        assert c["sgscore1"] == pytest.approx(0.02, abs=1e-6) and c["srmag1"] == pytest.approx(19.3, abs=1e-5)
        assert c["distpsnr1"] == pytest.approx(np.hypot(0.8, 0.3), abs=0.5)
        assert c["sgscore2"] == -999.0 and c["nmtchps"] == 1
        assert c["distnr"] == pytest.approx(c["distpsnr1"], abs=0.6)


def test_ztf_merges_what_lsst_resolves():
    wide = {"places": ((1.0, 0.0), (-0.9, 0.3)), "peaks_njy": (300000.0, 200000.0)}
    assert len({a.object_id for a in simulate_packets(system(**wide), "lsst")}) == 2
    assert len({a.object_id for a in simulate_packets(system(**wide), "ztf")}) == 1


def test_ztf_packets_can_be_made_again_alone():
    chosen = system(index=5, peaks_njy=250000.0)
    once = [a.value for a in simulate_packets(chosen, "ztf")]
    assert [a.value for a in reversed(simulate_packets(chosen, "ztf"))][::-1] == once


# The command


def test_simulate_writes_packets_labels_and_schemas_and_resumes(tmp_path, capsys):
    from dgl_broker.archive.sources import read_messages
    from dgl_broker.sim.packet_files import write_packet_files
    from dgl_broker.wire import decode, schema_source

    args = {"mix": "sn_ia_host=1,lensed_sn_ia=2", "alerts_per_object": 2, "workers": 1}
    n = write_packet_files("lsst", 6, 9, tmp_path / "a", **args)
    rows = list(csv.DictReader((tmp_path / "a/labels.csv").read_text().splitlines()))
    assert n == len(rows) > 2
    source = schema_source(str(tmp_path / "a/schemas"))
    for row in rows:
        record = decode((tmp_path / "a" / row["file"]).read_bytes(), "lsst", source).record
        assert str(record["diaSourceId"]) == row["alert_id"]
        assert int(row["n_detections"]) <= 2
    assert len(list(read_messages([tmp_path / "a/packets"]))) == n
    first = (tmp_path / "a/labels.csv").read_bytes()
    path = tmp_path / "a" / rows[0]["file"]
    before = path.stat().st_mtime_ns
    assert write_packet_files("lsst", 6, 9, tmp_path / "a", **args) == n  # nothing left to do
    assert path.stat().st_mtime_ns == before
    for part in (tmp_path / "a/parts").iterdir():
        part.unlink()  # as if it had been interrupted
    path.unlink()
    write_packet_files("lsst", 6, 9, tmp_path / "a", **args)
    assert path.exists() and (tmp_path / "a/labels.csv").read_bytes() == first
    with pytest.raises(ConfigError, match="seed"):
        write_packet_files("lsst", 6, 10, tmp_path / "a", **args)


def test_simulate_writes_ztf_containers(tmp_path):
    from dgl_broker.archive.sources import read_messages
    from dgl_broker.sim.packet_files import write_packet_files

    n = write_packet_files("ztf", 12, 9, tmp_path, mix="sn_ia_host", alerts_per_object=2, workers=1)
    rows = list(csv.DictReader((tmp_path / "labels.csv").read_text().splitlines()))
    messages = list(read_messages([tmp_path / "packets"], "ztf"))
    assert n == len(rows) == len(messages) > 2
    assert [str(m.packet.record["candid"]) for m in messages] == [r["alert_id"] for r in rows]


def test_mixes_are_shares_of_known_kinds():
    from dgl_broker.sim.packet_files import even_weights, kind_of, parse_weights
    from dgl_broker.sim.system import CLASS_OF_KIND

    even = even_weights()
    assert sum(even.values()) == pytest.approx(1.0)
    for label in set(CLASS_OF_KIND.values()):
        assert sum(w for k, w in even.items() if CLASS_OF_KIND[k] == label) == pytest.approx(0.25)
    drawn = [kind_of(1, i, even) for i in range(4000)]
    # Binomial: 0.25 +- 0.007.
    assert np.mean([CLASS_OF_KIND[k] == "lens" for k in drawn]) == pytest.approx(0.25, abs=0.03)
    assert parse_weights("agn=3,tde", "lsst") == {"agn": 0.75, "tde": 0.25}
    for wrong in ("agnn=1", "agn=x", "agn=-1", "agn=nan"):
        with pytest.raises(ConfigError, match="--mix"):
            parse_weights(wrong, "lsst")


def test_ztf_stamps_at_the_detectors_edge_are_cut_and_still_hold_the_source(monkeypatch):
    from dgl_broker import wire
    from dgl_broker.sim import observe
    from dgl_broker.stamps import read_stamp
    from dgl_broker.surveys import read_alert

    monkeypatch.setattr(observe, "EDGE_SHARE", 1.0)
    alerts = simulate_packets(system(index=1, peaks_njy=2e6, galaxies=()), "ztf")
    checked = 0
    for alert in alerts[:12]:
        read = read_alert(wire.decode(alert.value, "ztf", None))
        if read.cutouts.difference is None or alert.labels["snr"] < 20:
            continue
        stamp = read_stamp(read.cutouts.difference, "difference", read.cutouts)
        assert stamp.pixels.shape[0] == 63 and 32 <= stamp.pixels.shape[1] < 63
        peak = np.unravel_index(np.argmax(stamp.pixels), stamp.pixels.shape)
        assert np.hypot(peak[1] - stamp.x0, peak[0] - stamp.y0) < 1.6  # the reader's place and the bright pixel
        checked += 1
    assert checked > 2


def test_missing_pixels_spare_the_middle():
    from dgl_broker.sim.ztf_images import missing_pixels

    rng = np.random.default_rng(0)
    for _ in range(200):
        bad = missing_pixels(rng.uniform(size=2))
        assert 0 < bad.mean() < 0.3 and not bad[24:39, 24:39].any()


def test_known_moving_objects_have_no_object_and_say_so():
    from dgl_broker.sim.system import KINDS

    assert "moving_object" in KINDS["no_lens"]
    known = unknown = 0
    for index in range(24):
        passing = system(
            index=index, kind="moving_object", variability=Steady(((0.2, 0.1),), 0.0, 15000.0), active_days=(-40.0, 10.0)
        )
        for alert in simulate_packets(passing, "lsst")[:1]:
            record = _lsst(alert)
            if alert.object_id is None:
                known += 1
                assert record["diaObject"] is None and record["diaSource"]["ssObjectId"] > 2**53
                assert record["ssSource"]["ssObjectId"] == record["diaSource"]["ssObjectId"]
                assert record["prvDiaSources"] is None and record["prvDiaForcedSources"] is None
            else:
                unknown += 1
                assert record["ssSource"] is None and record["diaSource"]["ssObjectId"] == 0
    assert known > 2 and unknown > 2


def test_places_on_the_sky_are_those_of_astropy():
    from astropy.coordinates import angular_separation

    from dgl_broker.sim.identity import sky_place
    from dgl_broker.sim.solar_system import ecliptic, galactic

    ra, dec = sky_place(10.0, 60.0, 300.0, -200.0)
    apart = angular_separation(*np.radians([10.0, 60.0, float(ra), float(dec)]))
    assert np.degrees(apart) * 3600 == pytest.approx(np.hypot(300, 200), rel=1e-5)
    # Of astropy.coordinates (Galactic; BarycentricMeanEcliptic of J2000), as printed; the tolerance is J2000 against ICRS.
    assert galactic(83.6331, 22.0145) == pytest.approx((184.5575, -5.7843), abs=2e-3)
    assert ecliptic(83.6331, 22.0145) == pytest.approx((84.0973, -1.2945), abs=2e-3)


@pytest.mark.parametrize(
    ("profile", "option", "named"),
    [
        ("lsst", ["--recipe", "published"], "--recipe"),
        ("lsst", ["--sn-off"], "--sn-off"),
        ("des_deep", ["--packets"], "--packets"),
        ("des_deep", ["--mix", "stream"], "--mix"),
        ("des_deep", ["--alerts-per-object", "3"], "--alerts-per-object"),
    ],
)
def test_an_option_of_other_profiles_is_refused(tmp_path, capsys, profile, option, named):
    assert main(["simulate", "--profile", profile, "--n", "1", "--out", str(tmp_path / "x"), *option]) == 2
    assert named in capsys.readouterr().err and not (tmp_path / "x").exists()

"""The kit for reports: what is escaped, what is drawn, what a page may load. PNG is read back by a reader of its own here."""

import itertools
import re
import struct
import xml.etree.ElementTree as ET
import zlib

import numpy as np
import pytest
from make_alerts import fits_bytes, gaussian, light_curve, lsst_alert, wcs_cards

from dgl_broker.alert import BANDS, DETECTION, FORCED, UPPER_LIMIT, Cutouts
from dgl_broker.errors import StateError
from dgl_broker.html import alert_words, bands, charts, diagnostics, light_curves, network_view, page, png, sky, tables
from dgl_broker.html.axes import Axis, Frame, power_label
from dgl_broker.html.markup import Markup, element, escape, join, number
from dgl_broker.html.scores import probability, score_panel, training_share
from dgl_broker.scores import Scores

SVG = "{http://www.w3.org/2000/svg}"
HOSTILE = "<script>alert('x')</script> & \"quoted\" \x00\x1b[31m \ud800"


def read_png(data):
    """Pixels (H, W, 3) of an 8-bit RGB PNG, every checksum verified; filters 0 to 2 of ISO/IEC 15948."""
    assert data[:8] == bytes([137, 80, 78, 71, 13, 10, 26, 10])
    at, chunks = 8, {}
    while at < len(data):
        size, kind = struct.unpack(">I4s", data[at : at + 8])
        body = data[at + 8 : at + 8 + size]
        assert struct.unpack(">I", data[at + 8 + size : at + 12 + size])[0] == zlib.crc32(kind + body)
        chunks[kind] = chunks.get(kind, b"") + body
        at += 12 + size
    width, height, *rest = struct.unpack(">IIBBBBB", chunks[b"IHDR"])
    assert rest == [8, 2, 0, 0, 0] and chunks[b"IEND"] == b""
    rows = np.frombuffer(zlib.decompress(chunks[b"IDAT"]), np.uint8).reshape(height, 1 + 3 * width)
    out = np.zeros((height, 3 * width), np.uint8)
    for n, row in enumerate(rows):
        above = out[n - 1] if n else np.zeros(3 * width, np.uint8)
        assert row[0] in (0, 2)
        out[n] = row[1:] + (above if row[0] == 2 else 0)
    return out.reshape(height, width, 3)


def scores(**changes):
    values = {
        "p_no_lens": 0.002, "p_lens": 0.12, "p_lensed_sn_ia": 0.81, "p_lensed_sn_cc": 0.068, "p_lsn": 0.878, "log_odds": 4.0,
        "posterior": 5.5e-5, "prevalence": 1e-6, "p_value": 2e-4, "p_value_floor": 5e-5, "stratum": "r, 3 to 5",
        "member_p_lsn": (0.93, 0.71, 0.9), "spread": 0.6, "bundle_id": "lsst", "bundle_sha256": "ab" * 32,
        "calibration_id": "c", "device": "cpu", "precision": "float32",
    }  # fmt: skip
    return Scores(**(values | changes))


def drawn(markup):
    """The markup as XML, in which a page's SVG must stand as well."""
    return ET.fromstring(markup.replace("&nbsp;", " "))


def test_data_becomes_text_in_elements_and_attributes():
    made = element("p", HOSTILE, title=HOSTILE)
    assert "<script" not in made and "\x1b" not in made and "\x00" not in made
    root = drawn(made)
    # NUL, escape and a lone surrogate are no characters of XML and come back as U+FFFD.
    assert root.text == root.get("title") == "<script>alert('x')</script> & \"quoted\" \ufffd\ufffd[31m \ufffd"
    made.encode("utf-8")


def test_markup_is_not_escaped_twice_and_plain_text_is_once():
    assert element("p", element("b", "a & b")) == "<p><b>a &amp; b</b></p>"
    assert join(["<", Markup("<br/>"), None, ["&"]]) == "&lt;<br/>&amp;"
    assert escape(None) == "" and escape(3) == "3"


def test_an_attribute_name_from_data_is_refused():
    with pytest.raises(ValueError, match="attribute"):
        element("p", **{'x onload="y"': "1"})


@pytest.mark.parametrize(("value", "text"), [(1.0, "1"), (-0.0001, "0"), (12.3456, "12.35"), (100.0, "100"), (-2.5, "-2.5")])
def test_coordinates_are_short_and_right(value, text):
    assert number(value) == text


def test_a_coordinate_that_is_not_finite_is_an_error():
    with pytest.raises(ValueError, match="finite"):
        number(float("nan"))


def test_png_reads_back_pixel_by_pixel():
    pixels = np.random.default_rng(5).integers(0, 256, (7, 11, 3)).astype(np.uint8)
    assert np.array_equal(read_png(png.png(pixels)), pixels)


def test_png_agrees_with_an_independent_reader():
    image = pytest.importorskip("PIL.Image")
    import io

    pixels = np.random.default_rng(6).integers(0, 256, (5, 9, 3)).astype(np.uint8)
    assert np.array_equal(np.asarray(image.open(io.BytesIO(png.png(pixels))).convert("RGB")), pixels)


def test_picture_has_north_up_and_its_first_column_left():
    plane = np.zeros((4, 4))
    plane[3, 0] = 100.0  # the northernmost row, the first (eastern) column
    shown = png.picture(plane, scale=1).astype(int).sum(axis=2)
    assert np.unravel_index(shown.argmax(), shown.shape) == (0, 0)


def test_masked_pixels_are_hatched_and_others_never_look_so():
    rng = np.random.default_rng(1)
    plane, valid = rng.normal(0, 1, (6, 6)), np.ones((6, 6), bool)
    plane[2, 3], valid[5, 5] = np.nan, False
    scale = 6
    rgb = png.picture(plane, valid, signed=True, scale=scale)
    hatch = {png.MASK_GREY, png.MASK_STRIPE}
    for row, column in itertools.product(range(6), range(6)):
        cell = rgb[(5 - row) * scale : (6 - row) * scale, column * scale : (column + 1) * scale].reshape(-1, 3)
        found = {tuple(map(int, p)) for p in cell}
        if (row, column) in ((2, 3), (5, 5)):
            assert found == hatch
        else:
            assert not found & hatch and len(found) == 1


def test_stretch_keeps_zero_of_a_difference_and_the_sign():
    rng = np.random.default_rng(2)
    plane = rng.normal(0, 1, (20, 20))
    plane[3, 3], plane[4, 4], plane[5, 5] = 50.0, -50.0, 0.0
    level = png.stretch(plane, np.ones_like(plane, bool), signed=True)
    assert level[5, 5] == 0.0 and level[3, 3] == pytest.approx(-level[4, 4]) and level[3, 3] == pytest.approx(1.0)


def test_noise_alone_is_not_stretched_to_the_end_of_the_scale():
    plane = np.random.default_rng(3).normal(0, 1, (30, 30)).clip(-2, 2)
    level = png.stretch(plane, np.ones_like(plane, bool), signed=True)
    assert np.abs(level).max() < 0.65  # asinh(2 / 2) / asinh(2.5) = 0.535 for noise of exactly 1


@pytest.mark.parametrize("plane", [np.zeros((5, 5)), np.full((5, 5), 7.0), np.full((5, 5), np.nan)])
def test_planes_without_contrast_are_drawn(plane):
    assert png.picture(plane, scale=2).shape == (10, 10, 3)


# Machado et al. 2009, severity 1.0, on linear RGB: rows as published with the paper.
COLOUR_VISION = {
    "normal": np.eye(3),
    "protanopia": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deuteranopia": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
    "tritanopia": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]],
}


def _linear(colour):
    c = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    return np.where(c <= 0.04045, c / 12.92, ((c + 0.055) / 1.055) ** 2.4)


def _lab(rgb):
    xyz = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]) @ np.clip(rgb, 0, 1)
    t = xyz / [0.9505, 1.0, 1.089]
    f = np.where(t > 0.008856, np.cbrt(t), 7.787 * t + 16 / 116)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


@pytest.mark.parametrize("vision", COLOUR_VISION)
@pytest.mark.parametrize("palette", [bands.LIGHT, bands.DARK])
def test_bands_are_told_apart_by_any_eye(palette, vision):
    seen = {b: _lab(np.asarray(COLOUR_VISION[vision]) @ _linear(c)) for b, c in palette.items()}
    assert min(np.linalg.norm(seen[a] - seen[b]) for a, b in itertools.combinations(BANDS, 2)) > 25


@pytest.mark.parametrize(("palette", "paper"), [(bands.LIGHT, bands.LIGHT_PAPER), (bands.DARK, bands.DARK_PAPER)])
def test_bands_stand_off_their_paper(palette, paper):
    def luminance(colour):
        return float(_linear(colour) @ [0.2126, 0.7152, 0.0722])

    for colour in palette.values():
        dark, light = sorted((luminance(colour), luminance(paper)))
        assert (light + 0.05) / (dark + 0.05) >= 3.0  # WCAG 2.1, 1.4.11 non-text contrast
    # The style sheet draws on these papers.
    style = page._style()
    assert f"--card: {paper}" in style


def test_no_two_bands_share_a_shape():
    assert len(set(bands.SHAPES.values())) == len(BANDS)
    shapes = {re.sub(r"band-\w", "", bands.marker(b, 10, 10)) for b in BANDS}
    assert len(shapes) == len(BANDS)


@pytest.mark.parametrize(
    ("axis", "labels"),
    [
        (Axis("x", 0.0, 1.0), ["0.0", "0.2", "0.4", "0.6", "0.8", "1.0"]),
        (Axis("x", -30.0, 0.0), ["−30", "−25", "−20", "−15", "−10", "−5", "0"]),
        (Axis("x", 1e-4, 1.0, "log"), ["10⁻⁴", "0.001", "0.01", "0.1", "1"]),
    ],
)
def test_ticks_stand_at_round_places(axis, labels):
    assert [label for _, label in axis.ticks()] == labels


def test_axes_place_values_where_the_scale_says():
    assert Axis("x", 1e-4, 1.0, "log").fraction([1e-4, 1e-2, 1.0]) == pytest.approx([0.0, 0.5, 1.0])
    assert Axis("x", 1e-3, 1 - 1e-3, "logit").fraction([0.5]) == pytest.approx([0.5])
    assert Axis("x", 0.0, 10.0).fraction([-5.0, 20.0]).tolist() == [0.0, 1.0]
    assert power_label(-6) == "10⁻⁶" and power_label(0) == "1"


@pytest.mark.parametrize(
    ("low", "high", "scale"), [(0, 1, "log"), (1, 1, "linear"), (0.1, 1.0, "logit"), (0, np.nan, "linear")]
)
def test_axes_without_sense_are_refused(low, high, scale):
    with pytest.raises(ValueError):
        Axis("x", low, high, scale)


def mixed_curve():
    n = 9
    return light_curve(
        list(61000.0 - np.arange(n)[::-1]),
        "ugrizygri",
        [-500.0, 0, 900, 4000, 5000, 4500, 0, 3000, 2500],
        [100.0, 200, 150, 150, 150, 150, 300, 200, 200],
        [FORCED, UPPER_LIMIT, FORCED, DETECTION, DETECTION, DETECTION, UPPER_LIMIT, DETECTION, DETECTION],
    )


def test_light_curve_draws_every_point_once_with_its_words():
    figure = drawn(light_curves.plot_light_curve(mixed_curve(), 61000.0))
    titles = [t.text for t in figure.iter(f"{SVG}title")]
    assert len(titles) == 9
    assert sum("detection" in t for t in titles) == 5 and sum("forced" in t for t in titles) == 2
    # 5 x 0.2 microjansky: an upper limit's error is a fifth of it
    assert any(t.startswith("g, −7.00 d: below 1 µJy") for t in titles)
    assert "u, −8.00 d: −0.5 ± 0.1 µJy, forced" in titles
    svg = figure.find(f"{SVG}svg")
    assert svg.get("role") == "img" and "5 detections" in svg.get("aria-label")
    assert len(figure.findall(f".//{SVG}circle[@class='ring']")) == 1


def test_light_curve_shows_magnitudes_of_its_flux():
    figure = drawn(light_curves.plot_light_curve(mixed_curve(), 61000.0))
    texts = {t.text: float(t.get("y")) for t in figure.iter(f"{SVG}text") if t.get("y")}
    # AB 22 is 10**(0.4 * (31.4 - 22)) nJy = 5.754 microjansky; the top of the scale lies a tenth over 5.15.
    assert "22.5" in texts and "22" not in texts
    # AB 22.5 is 3.631 microjansky, so it stands between the flux ticks 2 and 4, nearer to 4.
    assert abs(texts["22.5"] - texts["4"]) < abs(texts["22.5"] - texts["2"])


def test_one_wild_forced_point_does_not_flatten_the_rest():
    n = 40
    flux = np.r_[np.full(n, 100.0) + np.arange(n), 5000.0]
    flux[7] = -1e6
    kind = np.r_[np.full(n, FORCED), DETECTION]
    low, high = light_curves.flux_range(flux, np.full(n + 1, 10.0), kind)
    assert low > -200 and high == pytest.approx(5010.0)
    curve = light_curve(list(61000.0 - np.arange(n + 1)[::-1]), "r", flux, 10.0, kind)
    assert "1 points beyond the scale" in light_curves.plot_light_curve(curve, 61000.0)


@pytest.mark.parametrize("n, words", [(0, "no points"), (1, "1 detection (r 1)")])
def test_light_curves_of_no_point_and_of_one_are_drawn(n, words):
    figure = drawn(light_curves.plot_light_curve(light_curve([61000.0][:n]), 61000.0))
    svg = figure.find(f"{SVG}svg")
    assert words in svg.get("aria-label")
    assert [t.text for t in svg.iter(f"{SVG}title")] == ["r, +0.00 d: 5 ± 0.2 µJy, detection"][:n]
    assert len(svg.findall(f".//{SVG}circle[@class='ring']")) == n
    # Scales of some width all the same: two ticks of time at least, all within the drawing, and no number that is none.
    ticks = {t.text: float(t.get("x")) for t in svg.iter(f"{SVG}text") if t.get("class") == "tick"}
    assert 0 < ticks["−2.0"] < ticks["0.0"] < float(svg.get("width"))
    assert "nan" not in ET.tostring(svg, "unicode") and "inf" not in ET.tostring(svg, "unicode")


def test_a_flux_that_is_not_finite_is_left_out():
    curve = light_curve([60999.0, 61000.0], flux=[np.nan, 5.0])
    assert len(list(drawn(light_curves.plot_light_curve(curve, 61000.0)).iter(f"{SVG}title"))) == 1


def test_stamps_are_turned_north_up():
    # A source 2" north of the alert on a stamp turned by 90 degrees: matrix (dx, dy) -> (east, north) with +x north.
    pixels = gaussian(31, 15 + 10, 15, sigma=1.2, noise=1.0)
    cards = wcs_cards(90.0, x0=15.0, y0=15.0)
    alert = lsst_alert(cutouts=Cutouts(None, None, fits_bytes(pixels, **cards)))
    found = sky.read_sky(alert)
    assert found["science"] == "not in the packet"
    placed = found["difference"]
    row, column = np.unravel_index(placed.plane.argmax(), placed.plane.shape)
    assert (row, column) == (25, 15) and placed.pixel_scale_arcsec == pytest.approx(0.2, rel=1e-6)


def test_stamp_tells_masked_pixels_from_what_lies_outside_it():
    pixels = gaussian(30, 14.7, 14.4)
    pixels[14, 16] = np.nan
    alert = lsst_alert(cutouts=Cutouts(None, None, fits_bytes(pixels, **wcs_cards(45.0))))
    placed = sky.read_sky(alert)["difference"]
    inside = ~placed.valid & ~placed.beyond
    assert 0 < inside.sum() < 20 and placed.beyond[0, 0] and not placed.beyond[15, 15]
    figure = drawn(sky.show(placed, "Difference", signed=True))
    assert "px masked (hatched)" in "".join(figure.itertext())
    image = figure.find(f".//{SVG}image")
    assert image.get("href").startswith("data:image/png;base64,")


def test_an_unreadable_stamp_says_why_in_its_place():
    alert = lsst_alert(cutouts=Cutouts(b"SIMPLE but no FITS", b"", None))
    found = sky.read_sky(alert)
    assert found["science"].startswith("unreadable") and found["template"] == "not in the packet"
    assert "no picture" in "".join(drawn(sky.show_all(found)).itertext())


def test_scale_bar_has_the_length_it_says():
    placed = sky.turn_north_up(_stamp(30, 0.2))
    figure = drawn(sky.show(placed, "x"))
    label = next(t.text for t in figure.iter(f"{SVG}text") if t.text.endswith("″"))
    length = float(
        re.search(
            r"h([\d.]+)$", next(p.get("d") for p in figure.iter(f"{SVG}path") if "h" in p.get("d") and "v" not in p.get("d"))
        )[1]
    )
    assert float(label[:-1]) / (30 * 0.2) == pytest.approx(length / 200, rel=1e-3)  # the picture is 200 units wide


def _stamp(side, scale):
    from dgl_broker.stamps import Stamp

    pixels = gaussian(side, (side - 1) / 2, (side - 1) / 2)
    matrix = np.array([[-scale, 0.0], [0.0, scale]])
    return Stamp(pixels, np.ones_like(pixels, bool), matrix, (side - 1) / 2, (side - 1) / 2)


def test_score_panel_says_the_numbers():
    text = "".join(drawn(score_panel(scores())).itertext())
    for part in ("0.81", "0.88", "LoNet", "+4.00", "0.0002", "lsst", "abababababab"):
        assert part in text


def test_training_share_comes_back_from_log_odds():
    share = 0.2
    p = 0.7
    odds = np.log(p / (1 - p)) - np.log(share / (1 - share))
    assert training_share(scores(p_lsn=p, log_odds=odds)) == pytest.approx(share)
    assert training_share(scores(p_lsn=1.0)) is None


@pytest.mark.parametrize(
    ("value", "text"), [(0.5, "0.50"), (0.995, "0.9950"), (3.14159e-5, "3.1e-05"), (1 - 2e-7, "1 − 2e-07"), (None, "unknown")]
)
def test_probabilities_keep_the_digits_that_count(value, text):
    assert probability(value) == text


def all_figures():
    x = np.arange(1, 11)
    y = x / 11
    broken = np.where(x == 5, np.nan, y)
    curve = charts.Series("a<b", x, broken, y - 0.05, y + 0.05)
    counts = {"live": [1, 0, 3, 2], "injected": [0, 0, 1, 5]}
    rates = [("AGN", 1e-3, 5e-4, 2e-3, "4 of 4,000"), ("cosmic ray", None, None, 3e-4, "0 of 10,000")]
    axis = Axis("false-positive rate", 1e-5, 0.1, "log")
    return {
        "lines": charts.plot_lines([curve] * 2, Axis("n", 1, 10), Axis("y", 0, 1), "t"),
        "histogram": charts.plot_histogram(np.arange(5.0), counts, "x", "t", log_y=True),
        "rates": charts.plot_rates(rates, axis, "t"),
        "bars": charts.bars([("no_source", 4), ("<b>", 0)], "t"),
        "reliability": diagnostics.reliability_diagram(y, y, y - 0.05, y + 0.05, x),
        "logit reliability": diagnostics.reliability_diagram(y**4, y**4, y**4 / 2, y, x, scale="logit"),
        "confusion": diagnostics.confusion_matrix([[9, 1], [2, 8]], ["no lens", "lens"]),
        "planes": network_view.show_planes(np.ones((2, 5, 5)), ["difference", "difference_mask"], 0.2),
        "steps": network_view.show_steps(np.eye(4, 3), ["mask", "snr", "flux"]),
        "context": network_view.show_context(np.array([0.0, 1.5]), ["zero", "one"]),
    }  # fmt: skip


@pytest.mark.parametrize("name", all_figures())
def test_every_figure_is_sound_markup_with_words_for_it(name):
    root = drawn(all_figures()[name])
    for svg in root.iter(f"{SVG}svg"):
        assert svg.get("role") == "img" and svg.get("aria-label") or svg.get("aria-hidden") == "true"


def test_a_curve_breaks_where_a_value_is_missing():
    root = drawn(all_figures()["lines"])
    lines = [p for p in root.iter(f"{SVG}path") if p.get("class") == "line" and p.get("stroke-linejoin")]
    assert len(lines) == 4  # two stretches for each of two curves


def test_a_plot_puts_a_point_where_its_axes_say():
    frame = Frame(Axis("x", 0, 10), Axis("y", 0, 1), 500, 300, left=50, right=50, top=20, bottom=80)
    assert float(frame.px(5)) == 250 and float(frame.py(0.5)) == 120 and float(frame.py(0)) == 220


def test_confusion_matrix_gives_shares_of_rows():
    text = " ".join(drawn(diagnostics.confusion_matrix([[9, 1], [2, 8]], ["no lens", "lens"])).itertext())
    assert "90.0 %" in text and "20.0 %" in text
    with pytest.raises(ValueError, match="shape"):
        diagnostics.confusion_matrix([[1, 2, 3]], ["a"])


def test_more_curves_than_styles_are_refused():
    with pytest.raises(ValueError, match="at most 6"):
        charts.plot_lines([charts.Series("a", [1], [1])] * 7, Axis("x", 0, 1), Axis("y", 0, 1), "t")


def whole_page():
    alert = lsst_alert(object_id=HOSTILE, curve=mixed_curve())
    return page.page(
        HOSTILE,
        page.section(
            HOSTILE,
            page.card(tables.facts(alert_words.describe_alert(alert)), title=HOSTILE, right=HOSTILE),
            tables.table(["a", tables.Column("b", HOSTILE, True)], [[HOSTILE, None]], HOSTILE),
            tables.counters([("consumed", 12345), "=", (HOSTILE, 1)]),
            light_curves.plot_light_curve(alert.light_curve, alert.mjd_tai, name=HOSTILE),
            sky.show_all(sky.read_sky(alert)),
            charts.bars([(HOSTILE, 2)], HOSTILE),
            page.fold(HOSTILE, HOSTILE),
        ),
        kicker=HOSTILE, lead=HOSTILE, banner=HOSTILE, links=[(HOSTILE, HOSTILE)],
    )  # fmt: skip


def test_a_page_is_well_formed_and_carries_no_script():
    text = whole_page()
    root = ET.fromstring(text.removeprefix("<!doctype html>\n"))
    names = {node.tag.split("}")[-1] for node in root.iter()}
    assert "script" not in names and {"header", "main", "footer", "title", "style"} <= names
    assert root.get("lang") == "en"


def test_a_page_loads_nothing():
    root = ET.fromstring(whole_page().removeprefix("<!doctype html>\n"))
    for node in root.iter():
        for key, value in node.attrib.items():
            if key in ("src", "href"):
                assert value.startswith(("data:", "#")), value
            assert not key.startswith("on")
    style = root.find("head/style").text
    assert "url(" not in style and "@import" not in style and "@font-face" not in style
    policy = next(m.get("content") for m in root.iter("meta") if m.get("http-equiv") == "Content-Security-Policy")
    assert "default-src 'none'" in policy


def test_a_page_is_written_whole_or_not_at_all(tmp_path):
    target = tmp_path / "new" / "page.html"
    assert page.write_page(target, "é").read_text(encoding="utf-8") == "é"
    assert [p.name for p in target.parent.iterdir()] == ["page.html"]
    (tmp_path / "file").write_text("")
    with pytest.raises(StateError, match="cannot be written"):
        page.write_page(tmp_path / "file" / "page.html", "x")


def test_rows_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="row of 1"):
        tables.table(["a", "b"], [["x"]])


@pytest.mark.parametrize(
    ("ra", "dec", "text"),
    [
        # 150.1 deg = 10 h + 0.1 deg = 24 s of time; 2.2 deg = 2 deg 12 arcmin
        (150.1, 2.2, "10h00m24.00s +02°12′00.0″"),
        (359.999999, -0.0001, "00h00m00.00s −00°00′00.4″"),
        (0.0, -89.99999, "00h00m00.00s −90°00′00.0″"),
    ],
)
def test_positions_in_hours_and_degrees(ra, dec, text):
    assert alert_words.sexagesimal(ra, dec) == text


def test_time_in_utc():
    # MJD 60310 TAI is 2024-01-01 00:00:00 TAI; TAI - UTC is 37 s since 2017 (IERS Bulletin C 52)
    assert alert_words.utc(60310.0) == "2023-12-31 23:59:23 UTC"
    assert alert_words.utc(1.5e9) == "no date"


def test_flux_in_words():
    # 3631 nJy is AB 31.4 - 2.5 log10(3631) = 22.50
    assert alert_words.flux_words(3631.0, 363.1) == "3.631 ± 0.36 µJy, S/N 10.0, AB 22.50"
    assert alert_words.flux_words(-3631.0, 363.1).endswith("AB 22.50, fainter than the template")


def test_a_shallow_limit_does_not_set_the_scale():
    flux, err = np.array([30.0, 32.0, 0.0, 0.0]), np.array([2.0, 2.0, 8.0, 80.0])
    kind = np.array([DETECTION, DETECTION, UPPER_LIMIT, UPPER_LIMIT])
    _, high = light_curves.flux_range(flux, err, kind)
    assert high == pytest.approx(1.3 * 34.0)  # limits at 40 and 400, detections up to 34
    _, alone = light_curves.flux_range(flux[2:], err[2:], kind[2:])
    assert alone == pytest.approx(310.0)  # three quarters of the way from 40 to 400

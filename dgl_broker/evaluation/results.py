"""Results small enough for the repository: reports without their curves, a file each, and the list of all that are wanted."""

import json
from dataclasses import dataclass
from pathlib import Path

from dgl_broker.errors import InputUnavailable, StateError

KEPT_PARTS = ("all", "separation_above_0.5")  # parts that are kept at every moment; the others at `PARTS_AT` alone
PARTS_AT = (7, 10)
DIGITS = 6


@dataclass(frozen=True)
class Row:
    """A result that the page must show: `name` of its file without `.json`, what it is, and the part of the page it is in."""

    name: str
    what: str
    part: str


def _alert_rows(survey):
    said = survey.upper()
    return (
        Row(survey, f"{said} alert bundle that ships, whatever its size", survey),
        Row(f"{survey}_full", f"{said} alert bundle, full size (the same, where that is what ships)", survey),
        Row(f"{survey}_quarter_2", f"{said} alert bundle, quarter size, second seed", survey),
        Row(f"{survey}_quarter_3", f"{said} alert bundle, quarter size, third seed", survey),
        Row(f"{survey}_paper_width", f"{said} alert bundle at the published widths: what the narrowing costs", survey),
        Row(f"{survey}_authors", f"{said} data, the authors' recipe", survey),
        Row(f"{survey}_zippernet", f"{said} data, ZipperNet", survey),
        Row(f"{survey}_cnn_lstm", f"{said} data, CNN+LSTM", survey),
    )


ROWS = (
    *_alert_rows("lsst"),
    Row("lsst_companions", "LSST alert bundle with companions: whether they are worth keeping", "lsst"),
    *_alert_rows("ztf"),
    Row("lsst_wide", "LSST-wide, ours, full size", "paper"),
    *(Row(f"lsst_wide_quarter_{n}", f"LSST-wide, ours, quarter size, seed {n}", "paper") for n in (1, 2, 3)),
    Row("lsst_wide_authors", "LSST-wide, the authors' recipe, full size", "paper"),
    *(
        Row(f"lsst_wide_authors_quarter_{n}", f"LSST-wide, the authors' recipe, quarter size, seed {n}", "paper")
        for n in (1, 2, 3)
    ),
    Row("lsst_wide_zippernet", "LSST-wide, ZipperNet", "paper"),
    Row("lsst_wide_cnn_lstm", "LSST-wide, CNN+LSTM often taken for DeepGraviLens", "paper"),
    Row("desi_dot", "DESI-DOT, ours", "paper"),
    Row("des_deep", "DES-deep, ours", "paper"),
    Row("des_wide", "DES-wide, ours", "paper"),
    Row("sn_off_physical", "LSST-wide, supernova switched off, physical profile", "controls"),
    Row("sn_off_published", "LSST-wide, supernova switched off, published profile", "controls"),
    Row("template_lsst", "LSST alerts, the template alone, matched systems", "controls"),
    Row("template_ztf", "ZTF alerts, the template alone, matched systems", "controls"),
    Row("real_lsst", "Truly observed LSST alerts as negatives", "real"),
    Row("real_ztf", "Truly observed ZTF alerts as negatives", "real"),
)


def is_further(name):
    """Whether a result is none of those wanted."""
    return name not in {row.name for row in ROWS}


def slim(report):
    """A report without curves, folders and what the page does not show.

    Parameters
    ----------
    report : dict
        As `report.json` holds it.
    """
    kept = ("format", "made", "machine", "bundle", "training", "fusions", "ablation_at", "abstention", "goals")
    out = {key: report[key] for key in kept if report.get(key) is not None}
    out["data"] = {"folders": [Path(f).name for f in report["data"]["folders"]], "rows": report["data"]["rows"]}
    if "comparison" in report:
        out["comparison"] = {**report["comparison"], "other": Path(report["comparison"]["other"]).name}
    if "paper" in report:
        out["paper"] = {key: value for key, value in report["paper"].items() if key != "roc"}
    if "alerts" in report:
        out["alerts"] = _slim_alerts(report["alerts"])
    return rounded(out)


def _slim_alerts(alerts):
    kept = ("missing_kinds", "purity", "confusion", "calibration", "conformal", "stability")
    out = {key: alerts[key] for key in kept if key in alerts}
    out["objects"] = {kind: entry["objects"] for kind, entry in alerts["census"]["by_kind"].items()}
    out["by_detection"] = {mix: [_slim_table(t) for t in tables] for mix, tables in alerts["by_detection"].items()}
    out["by_days"] = {mix: [_slim_table(t, ()) for t in tables] for mix, tables in alerts["by_days"].items()}
    out["contaminants"] = [row for row in alerts["contaminants"] if row["at"] in PARTS_AT]
    return out


def _slim_table(table, parts_at=PARTS_AT):
    rates = []
    for rate in table["rates"]:
        row = dict(rate)
        if rate["measurable"]:
            row["subsets"] = {n: s for n, s in rate["subsets"].items() if n in KEPT_PARTS or table["at"] in parts_at}
        rates.append(row)
    return {**{key: value for key, value in table.items() if key != "roc"}, "rates": rates}


def rounded(value):
    """Floats to six significant digits."""
    if isinstance(value, dict):
        return {key: rounded(v) for key, v in value.items()}
    if isinstance(value, list):
        return [rounded(v) for v in value]
    return float(f"{value:.{DIGITS}g}") if isinstance(value, float) else value


def write_result(path, report):
    """Write the small form of a report (`report.json`'s content) to a file."""
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(slim(report), separators=(",", ":"), allow_nan=False) + "\n")
    except OSError as error:
        raise StateError(f"{path}: result cannot be written: {error}") from error


def load_results(folder):
    """Results of a folder by file name without `.json`; none where there is no folder.

    Raises
    ------
    InputUnavailable
        For a file that holds no JSON object.
    """
    out = {}
    for path in sorted(Path(folder).glob("*.json")):
        try:
            out[path.stem] = json.loads(path.read_text())
        except (OSError, ValueError) as error:
            raise InputUnavailable(f"{path}: cannot be read: {error}") from error
        if not isinstance(out[path.stem], dict):
            raise InputUnavailable(f"{path}: holds a {type(out[path.stem]).__name__}, expected an object")
    return out

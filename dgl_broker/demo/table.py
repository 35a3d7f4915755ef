"""What the demonstration prints: its first line, the candidates as a table, the accounts."""

from rich.table import Table
from rich.text import Text

from dgl_broker.demo.record import against_truth
from dgl_broker.html.scores import CLASS_NAMES, probability

ROWS = 12
KIND_WORDS = {
    "lensed_sn_ia": "lensed SN Ia", "lensed_sn_cc": "lensed SN CC", "sn_ia_host": "SN Ia", "sn_cc_host": "SN CC",
    "sn_ia_lrg": "SN Ia in a red galaxy", "sn_cc_lrg": "SN CC in a red galaxy", "sn_ia_in_lens": "SN Ia of a lens galaxy",
    "sn_cc_in_lens": "SN CC of a lens galaxy", "sn_outside_images": "SN outside the images", "agn": "AGN", "tde": "TDE",
    "sibling_sne": "two SNe in one galaxy", "agn_in_lens": "AGN of a lens galaxy", "lensed_quasar": "lensed quasar",
    "lens_bad_subtraction": "lens, bad subtraction", "slsn": "SLSN",
}  # fmt: skip


def first_line(bundles):
    """The line that comes before all others: what the scores are worth."""
    untrained = [b.id for b in bundles if not b.trained]
    if untrained:
        return f"UNTRAINED WEIGHTS ({', '.join(untrained)}): Kafka and filter are the real thing, the scores mean nothing."
    return f"Bundles {', '.join(f'{b.id} {b.sha256[:8]}' for b in bundles)}: trained weights, simulated alerts."


def truth_words(label):
    """The simulator's truth of an alert in a few words."""
    if label is None:
        return "unknown"
    words = KIND_WORDS.get(label["kind"], label["kind"].replace("_", " "))
    n_images, magnification = label.get("n_images"), label.get("magnification")
    if label["class"].startswith("lensed_sn") and n_images:
        words += f", {n_images} images"
    if label["class"].startswith("lensed_sn") and magnification:
        words += f", ×{magnification:.3g}"
    return words


def candidate_table(shows, n=ROWS):
    """The best objects of each survey's night as a rich table, what passed a filter first."""
    title = "Candidates (●) and the best of the rest; one row an object, by its best alert"
    table = Table(title=title, title_justify="left", box=None, pad_edge=False)
    for name, kind in (
        ("", "left"), ("survey", "left"), ("object", "left"), ("log-odds", "right"), ("p_lsn", "right"), ("Ia", "right"),
        ("CC", "right"), ("det.", "right"), ("bands", "left"), ("truth (simulator)", "left"),
    ):  # fmt: skip
        table.add_column(name, justify=kind, no_wrap=True, overflow="ellipsis")
    for show in shows:
        for outcome in show.recorder.best(n):
            passed = any(v.passed for v in outcome.verdicts)
            scores, alert, label = outcome.scores, outcome.alert, show.labels.get(outcome.alert_id)
            is_lensed = label is not None and label["class"].startswith("lensed_sn")
            table.add_row(
                Text("●" if passed else "·", style="bold green" if passed else "dim"),
                show.survey,
                alert.object_id or str(alert.alert_id),
                f"{scores.log_odds:+.2f}",
                probability(scores.p_lsn),
                probability(scores.p_lensed_sn_ia),
                probability(scores.p_lensed_sn_cc),
                str(alert.light_curve.n_detections),
                alert.light_curve.bands_detected,
                Text(truth_words(label), style="cyan" if is_lensed else ""),
            )
    return table


def truth_table(show):
    """How each class of the simulator fared in one night."""
    table = Table(box=None, pad_edge=False)
    for name in (f"{show.survey}: truth", "alerts", "scored", "refused", "passed"):
        table.add_column(name, justify="left" if "truth" in name else "right")
    for name, counts in against_truth(show.recorder, show.labels).items():
        table.add_row(CLASS_NAMES[name], *(str(counts[k]) for k in ("sent", "scored", "refused", "passed")))
    return table

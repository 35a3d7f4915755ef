"""A scorer that needs no packets: the message's text says what becomes of it."""

from types import SimpleNamespace

from dgl_broker.scores import Outcome, Scores, Verdict

BUNDLE = "ab" * 32


def scores(log_odds=1.5):
    """Scores of a made-up bundle."""
    return Scores(
        0.9, 0.05, 0.03, 0.02, 0.05, log_odds, 1e-5, 1e-6, 0.5, 1e-3, "few", (0.1, 0.2, 0.3), 0.1, "fake", BUNDLE, None,
        "cpu", "float32",
    )  # fmt: skip


def alert(alert_id, survey="ztf", **facts):
    """As much of an alert as a record needs."""
    return SimpleNamespace(
        survey=survey, schema=f"{survey} 0", alert_id=alert_id, object_id=f"object{alert_id}", mjd_tai=61000.5,
        ra=10.0, dec=-3.0, band="g", facts={"programid": 1, **facts},
    )  # fmt: skip


class FakeScorer:
    """Messages "<alert id> <word>": `scored`, `candidate`, `precut` (refused by a pre-cut), `poor` (refused otherwise),
    `partner` (scored, of programme 2); anything else cannot be read.

    `before` is called with the messages of each batch.
    """

    bundle_id = "fake"
    bundle_sha256 = BUNDLE
    device_name = "cpu"
    is_trained = True

    def __init__(self, before=lambda messages: None):
        self.filters = [SimpleNamespace(name="bright", version=3)]
        self.before = before
        self.seen = []

    def score(self, messages):
        """One outcome a message."""
        self.before(messages)
        self.seen += messages
        return [self._one(m) for m in messages]

    def refuse(self, messages, reason, text):
        """One refusal a message; a dead letter where it cannot be read."""
        outcomes = [self._one(m) for m in messages]
        return [o if o.alert is None else Outcome("refused", o.message, reason, text, alert=o.alert) for o in outcomes]

    def _one(self, message):
        number, _, word = message.value.partition(b" ")
        word = word.split(b" ")[0].decode(errors="replace")
        if word not in ("scored", "candidate", "precut", "poor", "partner"):
            return Outcome("dead_lettered", message, "truncated", f"{message.where()}: {len(message.value)} bytes")
        one = alert(int(number), programid=2 if word == "partner" else 1)
        if word in ("precut", "poor"):
            return Outcome("refused", message, "precut.faint" if word == "precut" else "no_cutouts", "made up", alert=one)
        verdict = Verdict("bright", 3, word == "candidate", () if word == "candidate" else (("log_odds", 1.5),))
        return Outcome("scored", message, alert=one, scores=scores(), verdicts=(verdict,))

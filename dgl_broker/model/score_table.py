"""Scores of a batch as columns, and one row as `dgl_broker.scores.Scores`."""

from dataclasses import dataclass

import numpy as np

from dgl_broker.errors import NotScorable
from dgl_broker.scores import CLASSES, Scores

LSN = slice(2, 4)  # lensed_sn_ia, lensed_sn_cc in CLASSES


def log_sum_exp(values):
    """log(sum(exp(values))) over the last axis, without overflow; float64."""
    top = values.max(axis=-1, keepdims=True)
    with np.errstate(invalid="ignore"):
        return top[..., 0] + np.log(np.exp(values - top).sum(axis=-1))


def lsn_logit(logits):
    """logit of the probability of a lensed supernova, from class logits (..., 4); never by 1 - p, so it does not saturate."""
    return log_sum_exp(logits[..., LSN]) - log_sum_exp(logits[..., : LSN.start])


def expit(values):
    """1 / (1 + exp(-x)), without overflow."""
    small = np.exp(-np.abs(values))
    return np.where(values >= 0, 1.0, small) / (1.0 + small)


def logit(share):
    """log(p / (1 - p)), accurate for the smallest prevalences."""
    return np.log(share) - np.log1p(-share)


@dataclass(frozen=True, eq=False)
class ScoreTable:
    """Scores of N alerts; every array has N rows, float64. `table[i]` is row i as `Scores`.

    `probabilities` (N, 4) in the order of `CLASSES`; `member_log_prob` (N, 3, 4) and `member_p_lsn` (N, 3) in that of
    `MEMBERS`; `pairwise` (N, 6), the SVM's values, or None. `class_index` is the most probable class, or the SVM's in mode
    "paper". `p_value` and `p_value_floor` are None without calibration. `finite` is False where a network's output was not:
    such a row is NaN, and `table[i]` raises NotScorable.
    """

    probabilities: np.ndarray
    p_lsn: np.ndarray
    log_odds: np.ndarray
    posterior: np.ndarray
    member_log_prob: np.ndarray
    member_p_lsn: np.ndarray
    spread: np.ndarray
    pairwise: np.ndarray | None
    class_index: np.ndarray
    p_value: np.ndarray | None
    p_value_floor: np.ndarray | None
    stratum: np.ndarray | None
    finite: np.ndarray
    prevalence: float
    bundle_id: str
    bundle_sha256: str
    calibration_id: str | None
    device: str
    precision: str

    def __len__(self):
        return len(self.log_odds)

    def column(self, name):
        """A float field of `Scores` for all rows, such as "p_lensed_sn_ia" or "log_odds"."""
        if name.removeprefix("p_") in CLASSES:
            return self.probabilities[:, CLASSES.index(name.removeprefix("p_"))]
        return getattr(self, name)

    def __getitem__(self, i):
        if not self.finite[i]:
            raise NotScorable("not_finite", f"row {i}: the networks' output for this alert is not finite")
        calibrated = self.p_value is not None
        return Scores(
            *(float(p) for p in self.probabilities[i]),
            p_lsn=float(self.p_lsn[i]),
            log_odds=float(self.log_odds[i]),
            posterior=float(self.posterior[i]),
            prevalence=self.prevalence,
            p_value=float(self.p_value[i]) if calibrated else None,
            p_value_floor=float(self.p_value_floor[i]) if calibrated else None,
            stratum=str(self.stratum[i]) if calibrated else None,
            member_p_lsn=tuple(float(p) for p in self.member_p_lsn[i]),
            spread=float(self.spread[i]),
            bundle_id=self.bundle_id,
            bundle_sha256=self.bundle_sha256,
            calibration_id=self.calibration_id,
            device=self.device,
            precision=self.precision,
        )

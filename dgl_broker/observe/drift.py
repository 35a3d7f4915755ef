"""Whether scores drift: how far the latest ones lie from those of a reference night, by Kolmogorov's and Smirnov's statistic.

The statistic is the largest difference between the two cumulative shares of scores: 0 where they are alike, 1 where they do not
overlap. Of 5,000 scores drawn from the reference itself it exceeds 0.028 once in a thousand times (1.95 / sqrt(n), Stephens
1974, doi:10.1080/01621459.1974.10480196); what an operator should hear of is several times that.
"""

import json
import math
import os
from collections import deque
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from dgl_broker.errors import ConfigError, InputUnavailable, StateError

WINDOW = 5000  # latest scores of a process
LEAST = 1000  # of them, before anything is said
N_QUANTILES = 1001


@dataclass(frozen=True)
class Reference:
    """Scores of a reference night, small enough for a configuration.

    Attributes
    ----------
    survey, night : str
        `night` as `dgl_broker.nights` has it, or the first and the last of several, `2026-11-20/2026-11-22`.
    bundle_id, bundle_sha256 : str
        Whose scores they are: those of others are not compared with them.
    n : int
        Scores that the quantiles are of.
    log_odds : tuple of float
        1001 of the scores, in order, at even ranks.
    """

    survey: str
    night: str
    bundle_id: str
    bundle_sha256: str
    n: int
    log_odds: tuple

    def save(self, path):
        """Write it, whole or not at all; StateError if that fails."""
        path = Path(path)
        partial = path.with_name(f".{path.name}.{os.getpid()}")
        try:
            partial.write_text(json.dumps(asdict(self)) + "\n")
            os.replace(partial, path)
        except OSError as error:
            raise StateError(f"{path}: cannot be written: {error.strerror}") from error


def make_reference(survey, night, bundle_id, bundle_sha256, log_odds):
    """A reference of these scores.

    Raises
    ------
    ConfigError
        If there are fewer than 1000, or any is not finite.
    """
    scores = np.sort(np.asarray(log_odds, float))
    if len(scores) < LEAST or not np.isfinite(scores).all():
        raise ConfigError(f"reference: {len(scores)} scores, expected at least {LEAST}, all finite")
    ranks = np.linspace(0, len(scores) - 1, N_QUANTILES).round().astype(int)
    return Reference(survey, night, bundle_id, bundle_sha256, len(scores), tuple(scores[ranks].tolist()))


def read_reference(path):
    """The reference in a file that `dgl-broker reference` wrote.

    Raises
    ------
    InputUnavailable
        If there is no such file.
    ConfigError
        If it is none.
    """
    try:
        said = json.loads(Path(path).read_text())
        found = Reference(**{**said, "log_odds": tuple(map(float, said["log_odds"]))})
    except OSError as error:
        raise InputUnavailable(f"{path}: {error.strerror}") from error
    except (ValueError, TypeError, KeyError) as error:
        raise ConfigError(f"{path}: not a reference as `dgl-broker reference` writes it: {error}") from error
    scores = found.log_odds
    if len(scores) != N_QUANTILES or not all(map(math.isfinite, scores)) or list(scores) != sorted(scores):
        raise ConfigError(f"{path}: {len(scores)} scores, expected {N_QUANTILES} in order, all finite")
    return found


class Drift:
    """The latest scores of a process, held against a reference."""

    def __init__(self, reference):
        self.reference = reference
        self._scores = np.asarray(reference.log_odds)
        self._latest = deque(maxlen=WINDOW)

    def add(self, log_odds):
        """Take in scores, in the order they came."""
        self._latest.extend(log_odds)

    @property
    def distance(self):
        """The statistic, 0 to 1; None before there are 1000 scores."""
        if len(self._latest) < LEAST:
            return None
        latest = np.sort(np.asarray(self._latest))
        at = np.concatenate([latest, self._scores])
        shares = (np.searchsorted(s, at, side="right") / len(s) for s in (latest, self._scores))
        return float(np.abs(np.subtract(*shares)).max())

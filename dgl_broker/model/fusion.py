"""From the members' log-probabilities and the SVM's pairwise values to one set of class logits.

Ways: "svm+lr" (default), a multinomial logistic regression over the clipped log-probabilities and the pairwise values; "lr"
over the log-probabilities alone; "svm" over the pairwise values alone; "mean_log_prob", the mean log-probability,
renormalised, which is fitted on nothing. All in float64.
"""

import math
from dataclasses import dataclass, replace

import torch

from dgl_broker.errors import ConfigError
from dgl_broker.model.svm import N_FEATURES, PAIRS, SvmArrays, checked
from dgl_broker.scores import CLASSES

WAYS = ("svm+lr", "lr", "svm", "mean_log_prob")
MODES = ("score", "paper")
CLIP = 1e-7  # probabilities below it carry float32 rounding, not evidence
N_INPUTS = {"svm+lr": N_FEATURES + len(PAIRS), "lr": N_FEATURES, "svm": len(PAIRS)}


def fusion_inputs(way, log_prob, pairwise=None):
    """What the regression of `way` sees, float64 (N, F): clipped log-probabilities (N, 3, 4), pairwise values (N, 6)."""
    clipped = log_prob.double().clamp(min=math.log(CLIP)).flatten(1)
    parts = {"svm+lr": (clipped, pairwise), "lr": (clipped,), "svm": (pairwise,)}[way]
    return torch.cat(parts, dim=1)


@dataclass(frozen=True, eq=False)
class Fusion:
    """How members become one score.

    `mean`, `scale` (F,) standardise the inputs; `coefficients` (4, F) and `intercepts` (4,) are the regression; all None for
    "mean_log_prob". `svm` is None where the way needs none. With mode "paper" the class is the SVM's, as published; the
    probabilities are the same. `class_mix` are the shares of the classes that the probabilities refer to.
    """

    way: str = "mean_log_prob"
    class_mix: tuple[float, ...] = (0.25, 0.25, 0.25, 0.25)
    svm: SvmArrays | None = None
    mean: torch.Tensor | None = None
    scale: torch.Tensor | None = None
    coefficients: torch.Tensor | None = None
    intercepts: torch.Tensor | None = None
    mode: str = "score"

    def __post_init__(self):
        if self.way not in WAYS:
            raise ConfigError(f"card: fusion.way {self.way!r}, expected one of {', '.join(WAYS)}")
        if self.mode not in MODES:
            raise ConfigError(f"card: fusion.mode {self.mode!r}, expected one of {', '.join(MODES)}")
        if self.svm is None and (self.mode == "paper" or "svm" in self.way):
            raise ConfigError(f"card: fusion.way {self.way!r}, mode {self.mode!r} needs an SVM, and there is none")
        mix = self.class_mix
        if self.scale is not None and not bool((self.scale > 0).all()):
            raise ConfigError("svm.safetensors: fusion.scale holds values that are not above 0")
        if len(mix) != len(CLASSES) or not all(0 < share < 1 for share in mix) or abs(sum(mix) - 1) > 1e-6:
            raise ConfigError(f"card: prior.class_mix {mix}, expected {len(CLASSES)} shares above 0 that sum to 1")

    @property
    def lsn_share(self):
        """Share of lensed supernovae in the mix."""
        return (self.class_mix[2] + self.class_mix[3]) / sum(self.class_mix)

    @classmethod
    def from_tensors(cls, tensors, card):
        """From the tensors of `svm.safetensors` and the card's `fusion` and `prior`."""
        section, prior = card.get("fusion"), card.get("prior")
        if not isinstance(section, dict) or not isinstance(prior, dict):
            raise ConfigError(f"bundle {card.get('id')}: the card has no tables `fusion` and `prior`")
        way, meta, shares = section.get("way"), section.get("svm"), prior.get("class_mix")
        if not isinstance(shares, dict) or list(shares) != list(CLASSES):
            raise ConfigError(f"card: prior.class_mix {shares!r}, expected a share for each of {', '.join(CLASSES)}")
        if not all(isinstance(s, int | float) and not isinstance(s, bool) for s in shares.values()):
            raise ConfigError(f"card: prior.class_mix {shares!r}, expected numbers")
        svm = None if meta is None else SvmArrays.from_tensors(tensors, meta)
        arrays = {}
        if isinstance(way, str) and way in N_INPUTS:
            n = N_INPUTS[way]
            sizes = {"mean": (n,), "scale": (n,), "coefficients": (len(CLASSES), n), "intercepts": (len(CLASSES),)}
            arrays = {name: checked(tensors, f"fusion.{name}", size) for name, size in sizes.items()}
        mode = section.get("mode", "score")
        return cls(way, tuple(float(s) for s in shares.values()), svm, mode=mode, **arrays)

    def tensors(self):
        """What `svm.safetensors` holds: the SVM's arrays and the regression's."""
        found = {} if self.svm is None else self.svm.tensors()
        if self.way in N_INPUTS:
            found |= {f"fusion.{name}": getattr(self, name) for name in ("mean", "scale", "coefficients", "intercepts")}
        return found

    def card(self):
        """The card's `fusion` and what it says of `prior`."""
        fusion = {"way": self.way, "mode": self.mode, "clip": CLIP, "svm": None if self.svm is None else self.svm.meta()}
        prior = {"class_mix": dict(zip(CLASSES, self.class_mix)), "lsn_share": self.lsn_share}
        return {"fusion": fusion, "prior": prior}

    def to(self, device):
        """The same on another device."""
        names = ("mean", "scale", "coefficients", "intercepts")
        moved = {name: getattr(self, name).to(device) for name in names if getattr(self, name) is not None}
        return replace(self, svm=None if self.svm is None else self.svm.to(device), **moved)

    def pairwise(self, log_prob):
        """The SVM's values (N, 6) for member log-probabilities (N, 3, 4), or None without an SVM."""
        return None if self.svm is None else self.svm.pairwise(log_prob.double().exp().flatten(1))

    def logits(self, log_prob, pairwise=None):
        """Class logits (N, 4), float64; up to a constant per row they are the log-probabilities at `class_mix`."""
        if self.way == "mean_log_prob":
            return log_prob.double().mean(1)
        inputs = (fusion_inputs(self.way, log_prob, pairwise) - self.mean) / self.scale
        return inputs @ self.coefficients.T + self.intercepts

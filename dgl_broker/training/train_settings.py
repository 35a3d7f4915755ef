"""How one network is trained, as checked values."""

from dataclasses import dataclass, field, fields

from dgl_broker.errors import ConfigError
from dgl_broker.training.augment import Augmentation

SCHEDULES = ("constant", "cosine", "plateau")
MONITORS = ("loss", "accuracy", "tpr")


@dataclass(frozen=True)
class Settings:
    """How one network is trained.

    rows_per_epoch : drawn by `row_chances` (0: as many as there are). balance : "rows" draws rows by their chances and weighs
    all alike; "loss" shows each row once and weighs classes in the loss, as the authors do. schedule : "cosine" (warm-up over
    `warmup_epochs`, then down to 1 % at the last epoch), "plateau" (halved after 5 epochs without gain) or "constant".
    monitor : what early stopping looks at on validation: "loss", "accuracy" (balanced as training is) or "tpr" (of lensed
    supernovae at a false-positive rate of 1e-2 of that mix). average : decay of the running mean of the weights that is
    validated and kept, per step; 0 for none. precision : "auto" is bfloat16 on CUDA, float32 elsewhere; "fast" is bfloat16
    on CPUs with instructions for it too (convolutions take half the time there; a GRU takes longer).
    """

    epochs: int = 30
    rows_per_epoch: int = 0
    batch: int = 256
    learning_rate: float = 1e-3
    weight_decay: float = 1e-4
    schedule: str = "cosine"
    warmup_epochs: float = 0.5
    patience: int = 6
    monitor: str = "loss"
    balance: str = "rows"
    class_share: dict = field(default_factory=dict)
    kind_weight: dict | None = field(default_factory=dict)
    object_power: float = 0.5
    validation_rows: int = 40000
    curve_rows: int = 8192
    average: float = 0.0
    clip: float = 5.0
    precision: str = "auto"
    augmentation: dict = field(default_factory=dict)
    seed: int = 1

    @classmethod
    def of(cls, settings):
        """From a dict of settings; ConfigError names an unknown key or value."""
        known = {f.name for f in fields(cls)}
        unknown = sorted(set(settings) - known)
        if unknown:
            raise ConfigError(f"training: {', '.join(unknown)} unknown, expected some of {', '.join(sorted(known))}")
        made = cls(**settings)
        for name, allowed in (("schedule", SCHEDULES), ("monitor", MONITORS), ("balance", ("rows", "loss")),
                              ("precision", ("auto", "fast", "float32", "bfloat16"))):  # fmt: skip
            if getattr(made, name) not in allowed:
                raise ConfigError(f"training: {name} {getattr(made, name)!r}, expected one of {', '.join(allowed)}")
        Augmentation.of(made.augmentation)
        return made

"""Training of one network: Adam, weighted cross-entropy, early stopping on validation, curves as CSV, resumed at any epoch.

Everything random is drawn from (seed, network, epoch), so a run that was cut off and goes on sees what an uncut one sees.
"""

import csv
import math
import time
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch

from dgl_broker.evaluation.measures import tpr_at_fpr
from dgl_broker.scores import CLASSES
from dgl_broker.training.augment import Augmentation, Augmenter
from dgl_broker.training.checkpoint import load_state, load_weights, save_state, save_weights
from dgl_broker.training.progress import bar
from dgl_broker.training.sampler import RowsOnDevice, draw_rows, row_chances
from dgl_broker.training.splits import unit_hash

CURVES = ("epoch", "seconds", "learning_rate", "train_loss", "train_accuracy", "validation_loss", "validation_accuracy",
          "validation_tpr")  # fmt: skip


def _seed(*parts):
    return int(unit_hash(*parts) * 2**31)


class Trainer:
    """Trains networks on one pair of tables; the device holds the rows once for all of them.

    Parameters
    ----------
    train, validation : shards.Table
    card : dict
        With `input`.
    device : torch.device
    """

    def __init__(self, train, validation, card, device):
        self.train, self.validation, self.card, self.device = train, validation, card, device
        self.train_rows = RowsOnDevice(train, device)
        self.validation_rows = RowsOnDevice(validation, device)

    def _chances(self, table, s):
        if s.balance == "loss":
            return np.full(len(table), 1 / len(table))
        return row_chances(table.labels, s.class_share, s.kind_weight, s.object_power)

    def _class_weights(self, s):
        """Weights of the classes in the loss: balanced, as scikit-learn defines it; ones where rows are balanced."""
        if s.balance == "rows":
            return None
        count = np.bincount(self.train.labels["class"].astype(int), minlength=len(CLASSES)).astype(float)
        weight = np.where(count > 0, count.sum() / (np.count_nonzero(count) * np.maximum(count, 1)), 0.0)
        return torch.tensor(weight, dtype=torch.float32, device=self.device)

    def fit(self, name, net, settings, folder):
        """Train `net`; its best weights are loaded into it and kept as `folder/<name>/best.safetensors`.

        Parameters
        ----------
        name : str
            Of the stage: its folder, and a part of its seed.
        net : torch.nn.Module
            `net(light_curve, image, context)` gives log-probabilities. Its present weights are the start.
        settings : Settings
        folder : path

        Returns
        -------
        dict
            `epochs`, `best_epoch`, `validation` (loss, accuracy, tpr at the best epoch), `seconds`, `parameters`.
        """
        place = Path(folder) / name
        # Channels last: the narrow convolutions of the alert networks are a fifth faster so, on a CPU and on a GPU.
        net = net.to(self.device).to(memory_format=torch.channels_last)
        run = _Run(self, name, net, settings, place)
        # The same seed gives the same weights on a GPU as well: no kernel is chosen by a race.
        with torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True):
            return run.go()

    @torch.no_grad()
    def evaluate(self, net, rows, table_rows, labels, batch=1024, autocast=None):
        """Mean loss, balanced accuracy and TPR at FPR 1e-2 over `rows`, none of them augmented."""
        net.eval()
        out = np.empty((len(rows), len(CLASSES)), np.float64)
        at = 0
        for part, images, curves, contexts in table_rows.batches(rows, batch):
            with autocast or _no_autocast():
                out[at : at + len(part)] = net(curves, images, contexts).double().cpu().numpy()
            at += len(part)
        label = labels["class"][rows].astype(int)
        loss = float(-out[np.arange(len(rows)), label].mean())
        right = out.argmax(1) == label
        accuracy = float(right.mean())
        p = np.exp(out)
        positive = label >= 2
        tpr = math.nan
        if positive.any() and (~positive).any():
            tpr = tpr_at_fpr(np.log(p[:, 2:].sum(1) + 1e-30) - np.log(p[:, :2].sum(1) + 1e-30), positive, 1e-2).tpr
        return {"loss": loss, "accuracy": accuracy, "tpr": float(tpr)}


def takes_half(precision, device_type):
    """Whether `Settings.precision` means bfloat16 on a device of this type ("cpu", "cuda")."""
    # A torch without the question answers no: float32 is never wrong, only slower.
    native = device_type == "cuda" or getattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)()
    return {"float32": False, "bfloat16": True, "auto": device_type == "cuda", "fast": native}[precision]


def _no_autocast():
    from contextlib import nullcontext

    return nullcontext()


class _Run:
    """One network's training, from its first or its next epoch to its last."""

    def __init__(self, trainer, name, net, settings, place):
        self.t, self.name, self.net, self.s, self.place = trainer, name, net, settings, place
        s, device = settings, trainer.device
        self.chances = trainer._chances(trainer.train, s)
        self.rows_per_epoch = s.rows_per_epoch or len(trainer.train)
        fixed = np.random.default_rng(_seed("fixed rows", s.seed))
        n_validation = min(s.validation_rows, len(trainer.validation))
        self.validation = np.sort(draw_rows(trainer._chances(trainer.validation, s), n_validation, fixed))
        self.curve = np.sort(draw_rows(self.chances, min(s.curve_rows, len(trainer.train)), fixed))
        self.augment = Augmenter(Augmentation.of(s.augmentation), trainer.card["input"])
        self.loss = torch.nn.NLLLoss(weight=trainer._class_weights(s))
        decay = [p for p in net.parameters() if p.ndim > 1]
        plain = [p for p in net.parameters() if p.ndim <= 1]
        groups = [{"params": decay, "weight_decay": s.weight_decay}, {"params": plain, "weight_decay": 0.0}]
        groups = [{**g, "params": [p for p in g["params"] if p.requires_grad]} for g in groups]
        self.optimizer = torch.optim.Adam([g for g in groups if g["params"]], lr=s.learning_rate, fused=True)
        half = takes_half(s.precision, device.type)
        self.autocast = torch.autocast(device.type, dtype=torch.bfloat16) if half else _no_autocast()
        self.steps = max(1, -(-self.rows_per_epoch // s.batch))
        self.progress = {"epoch": 0, "best": None, "best_epoch": -1, "bad": 0, "rate": 1.0, "seconds": 0.0}
        self.best, self.average = {}, {}

    def go(self):
        done = self.place / "best.safetensors"
        kept = load_state(self.place)
        if kept:
            self._resume(kept)
        ended = bool(kept) and self._ended()
        if not ended:
            torch.manual_seed(_seed("start", self.s.seed, self.name))
            with bar(self.name, self.s.epochs - self.progress["epoch"], "epochs") as advance:
                while not self._ended():
                    row = self._epoch()
                    advance(1, f"loss {row['validation_loss']:.4f} accuracy {row['validation_accuracy']:.3f}")
        if not (ended and done.is_file()):
            save_weights(done, self.best)
        self.net.load_state_dict(load_weights(done))
        self.net.eval()
        n = sum(p.numel() for p in self.net.parameters())
        return {
            "epochs": self.progress["epoch"],
            "best_epoch": self.progress["best_epoch"],
            "validation": self.progress["best"],
            "seconds": round(self.progress["seconds"], 1),
            "parameters": n,
            "settings": asdict(self.s),
        }

    def _ended(self):
        return self.progress["epoch"] >= self.s.epochs or self.progress["bad"] >= self.s.patience

    def _resume(self, kept):
        self.net.load_state_dict(kept["model"])
        self.optimizer.load_state_dict(kept["optimizer"])
        self.best = kept["best"]
        self.average = {k: v.to(self.t.device) for k, v in kept["average"].items()}
        self.progress = {k: kept["progress"][k] for k in self.progress}

    def _rate(self, step):
        """Factor on the learning rate at a step counted over all epochs."""
        s = self.s
        warm = s.warmup_epochs * self.steps
        up = min(1.0, (step + 1) / warm) if warm >= 1 else 1.0
        if s.schedule == "cosine":
            along = max(0.0, step - warm) / max(1.0, s.epochs * self.steps - warm)
            return up * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * min(1.0, along))))
        return up * self.progress["rate"]

    def _epoch(self):
        s, epoch, started = self.s, self.progress["epoch"], time.monotonic()
        rng = np.random.default_rng(_seed("rows", s.seed, self.name, epoch))
        generator = torch.Generator(self.t.device).manual_seed(_seed("augment", s.seed, self.name, epoch))
        torch.manual_seed(_seed("dropout", s.seed, self.name, epoch))
        rows = draw_rows(self.chances, self.rows_per_epoch, rng)
        self.net.train()
        for step, (part, images, curves, contexts) in enumerate(self.t.train_rows.batches(rows, s.batch)):
            if len(part) < 2:  # batch normalisation has no variance over one
                continue
            rate = self._rate(epoch * self.steps + step)
            for group in self.optimizer.param_groups:
                group["lr"] = s.learning_rate * rate
            images, curves, contexts = self.augment(images, curves, contexts, generator)
            images = images.contiguous(memory_format=torch.channels_last)
            label = torch.from_numpy(self.t.train.labels["class"][part].astype(np.int64)).to(self.t.device)
            with self.autocast:
                log_p = self.net(curves, images, contexts)
            loss = self.loss(log_p.float(), label)
            self.optimizer.zero_grad(set_to_none=True)
            loss.backward()
            if s.clip:
                torch.nn.utils.clip_grad_norm_(self.net.parameters(), s.clip)
            self.optimizer.step()
            if s.average:
                self._follow(epoch * self.steps + step)
        return self._judge(epoch, started)

    @torch.no_grad()
    def _follow(self, step):
        """The running mean of the weights; quick at first, so that the start is forgotten."""
        decay = min(self.s.average, (1 + step) / (10 + step))
        for key, value in self.net.state_dict().items():
            if key not in self.average or not value.dtype.is_floating_point:
                self.average[key] = value.clone()
            else:
                self.average[key].lerp_(value, 1 - decay)

    def _judge(self, epoch, started):
        """Validate, keep the best, write state and curves; gives the row of the curves."""
        now = {k: v.clone() for k, v in self.net.state_dict().items()}
        if self.s.average:
            self.net.load_state_dict(self.average)
        t = self.t
        found = t.evaluate(self.net, self.validation, t.validation_rows, t.validation.labels, autocast=self.autocast)
        seen = t.evaluate(self.net, self.curve, t.train_rows, t.train.labels, autocast=self.autocast)
        p, monitor = self.progress, self.s.monitor
        gain = -1 if monitor == "loss" else 1
        if p["best"] is None or gain * found[monitor] > gain * p["best"][monitor]:
            p.update(best=found, best_epoch=epoch, bad=0)
            self.best = {k: v.clone() for k, v in self.net.state_dict().items()}
        else:
            p["bad"] += 1
            if self.s.schedule == "plateau" and p["bad"] % 5 == 0:
                p["rate"] *= 0.5
        self.net.load_state_dict(now)
        p["epoch"] = epoch + 1
        p["seconds"] += time.monotonic() - started
        row = {
            "epoch": epoch,
            "seconds": round(time.monotonic() - started, 2),
            "learning_rate": self.optimizer.param_groups[0]["lr"],
            **{f"train_{k}": seen[k] for k in ("loss", "accuracy")},
            **{f"validation_{k}": found[k] for k in ("loss", "accuracy", "tpr")},
        }
        # Curves first: a crash here repeats an epoch, and its row is written over; the other order would lose it.
        self._write_curve(row)
        save_state(self.place, epoch, now, self.optimizer.state_dict(), self.best, self.average, p)
        return row

    def _write_curve(self, row):
        path = self.place / "curves.csv"
        self.place.mkdir(parents=True, exist_ok=True)
        rows = []
        if path.is_file():
            with open(path, newline="") as held:
                rows = [r for r in csv.DictReader(held) if int(r["epoch"]) < row["epoch"]]
        with open(path, "w", newline="") as out:
            writer = csv.DictWriter(out, CURVES)
            writer.writeheader()
            writer.writerows([*rows, row])

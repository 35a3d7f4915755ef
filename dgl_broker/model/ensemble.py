"""The ensemble at work: members on CPU or GPU, SVM and fusion in float64, then calibrated scores.

A score does not depend on its batch: matrix products choose other kernels, with other rounding, for other batch sizes, so
small batches are padded (see `padded_rows`), and everything behind the networks is float64.
"""

import logging

import numpy as np
import torch
from torch import nn

from dgl_broker.errors import ConfigError, StateError
from dgl_broker.model.device import CpuFeed, CudaFeed, choose_device, choose_precision, exact_arithmetic
from dgl_broker.model.folding import fold_batch_norm
from dgl_broker.model.fusion_networks import EncoderLayer, GloNet
from dgl_broker.model.networks import DeepCNN, SmallImageFC
from dgl_broker.model.score_table import ScoreTable, expit, logit, lsn_logit
from dgl_broker.scores import CLASSES, MEMBERS

LOG = logging.getLogger(__name__)
CPU_ROWS = 256  # a chunk: where the CPU reaches its peak, and what bounds memory
CUDA_ROWS = 1024
ROWS_MULTIPLE = 8
N_MEMBER_COLUMNS = len(MEMBERS) * len(CLASSES)


class Members(nn.Module):
    """LoNet, GloNet and MuNet together: log-probabilities (N, 3, 4), a trunk that two share computed once."""

    def __init__(self, networks):
        super().__init__()
        self.members = nn.ModuleList(networks[name] for name in MEMBERS)
        self.shape = networks[MEMBERS[0]].shape

    def forward(self, light_curve, image, context=None):
        cache = {}
        return torch.stack([net(light_curve, image, context, cache) for net in self.members], dim=1)


def narrow_precision(members, dtype):
    """Put the bulk of the arithmetic in `dtype`, in place.

    That is convolutions and wide dense layers (products still accumulate in float32 on a GPU). The GRU, the statistics, layer
    normalisation and the heads stay in float32: they cost nothing and carry the small differences that a log-odds is made of.
    """
    for module in members.modules():
        if isinstance(module, DeepCNN):
            for name, child in module.named_children():
                if name.startswith("conv") or name == "fc1":
                    child.to(dtype)
        elif isinstance(module, SmallImageFC):
            module.fc1.to(dtype)
        elif isinstance(module, EncoderLayer):
            module.linear1.to(dtype)
            module.linear2.to(dtype)
        elif isinstance(module, GloNet):
            for layer in module.fcn:
                if isinstance(layer, nn.Linear) and layer.in_features >= 256:
                    layer.to(dtype)


class Ensemble:
    """Scores of batches.

    Parameters
    ----------
    bundle : Bundle
    device : "cpu", "cuda", "cuda:N" or "auto"
    prevalence : float
        Declared share of lensed supernovae in the stream, above 0 and below 1.
    precision : "float32", "float16" or None
        None is float32 on a CPU and float16 on a GPU; the records say which.

    Raises
    ------
    ConfigError
        Prevalence, device or precision make no sense.
    DeviceUnavailable
        Asked for a GPU that is not there; nothing falls back.
    StateError
        The networks give no finite output even for an empty example.
    """

    def __init__(self, bundle, device="cpu", prevalence=1e-6, precision=None):
        if not isinstance(prevalence, int | float) or not 0.0 < prevalence < 1.0:
            raise ConfigError(f"prevalence {prevalence!r}, expected a number above 0 and below 1")
        self.bundle, self.prevalence = bundle, float(prevalence)
        self.device, self.device_name = choose_device(device)
        self.precision, dtype = choose_precision(precision, self.device)
        self.shape = bundle.shape
        self.members = Members(fold_batch_norm(bundle.networks)).to(self.device, memory_format=torch.channels_last)
        if dtype != torch.float32:
            narrow_precision(self.members, dtype)
        self.fusion = bundle.fusion.to(self.device)
        shape = self.shape
        self.row_shapes = ((shape.steps, shape.features), (shape.planes, shape.side, shape.side), (shape.context,))
        if self.device.type == "cuda":
            self.max_rows = CUDA_ROWS
            self.feed = CudaFeed(self._compute, self.device, self.max_rows, self.row_shapes)
        else:
            self.max_rows = CPU_ROWS
            self.feed = CpuFeed(self._compute)
        self._warm_up()

    def score(self, batch, strata=None):
        """Scores of N examples.

        Parameters
        ----------
        batch : dgl_broker.example.Batch
            `images` (N, C, S, S), `light_curves` (N, T, F), `contexts` (N, K); float32, finite.
        strata : sequence of N dicts, optional
            Facts that choose the stratum of the p-value; without them all are judged in stratum "all".

        Returns
        -------
        ScoreTable
            A row whose networks' output is not finite is marked so; it never harms the others.

        Raises
        ------
        ValueError
            Arrays of another shape than the bundle's.
        RuntimeError
            The device failed; nothing of the batch is scored.
        """
        arrays = [_array(a) for a in (batch.light_curves, batch.images, batch.contexts)]
        n = len(arrays[0])
        for name, array, tail in zip(("light_curves", "images", "contexts"), arrays, self.row_shapes):
            if array.shape != (n, *tail):
                raise ValueError(f"bundle {self.bundle.id}: {name} {array.shape}, expected {(n, *tail)}")
        strata = [{}] * n if strata is None else list(strata)
        if len(strata) != n:
            raise ValueError(f"bundle {self.bundle.id}: {len(strata)} strata for {n} examples")
        return self._table(self._evaluate(arrays), strata)

    def _evaluate(self, arrays):
        """Columns (N, K) float64 of N rows: member log-probabilities, pairwise values, fused logits."""
        n = len(arrays[0])
        if n == 0:
            return np.zeros((0, N_MEMBER_COLUMNS + self._n_pairs + len(CLASSES)))
        chunks = []
        for start in range(0, n, self.max_rows):
            stop = min(start + self.max_rows, n)
            chunks.append((start, stop, padded_rows(stop - start, self.device.type)))
        with exact_arithmetic():
            return self.feed.run(arrays, chunks).cpu().numpy()

    @property
    def _n_pairs(self):
        return 0 if self.fusion.svm is None else 6

    def _compute(self, light_curve, image, context):
        """Columns of one chunk on the device, float64."""
        image = image.contiguous(memory_format=torch.channels_last)
        log_prob = self.members(light_curve, image, context).double()
        pairwise = self.fusion.pairwise(log_prob)
        logits = self.fusion.logits(log_prob, pairwise)
        parts = (log_prob.flatten(1), logits) if pairwise is None else (log_prob.flatten(1), pairwise, logits)
        return torch.cat(parts, dim=1)

    def _table(self, columns, strata):
        """Columns as scores: probabilities, log-odds without saturation, posterior, p-values."""
        finite = np.isfinite(columns).all(axis=1)
        columns = np.where(finite[:, None], columns, np.nan)
        members = columns[:, :N_MEMBER_COLUMNS].reshape(-1, len(MEMBERS), len(CLASSES))
        pairwise = columns[:, N_MEMBER_COLUMNS : N_MEMBER_COLUMNS + self._n_pairs] if self._n_pairs else None
        logits = columns[:, -len(CLASSES) :]
        top = logits - logits.max(axis=1, keepdims=True)
        probabilities = np.exp(top)
        probabilities /= probabilities.sum(axis=1, keepdims=True)
        lsn = lsn_logit(logits)
        log_odds = lsn - logit(self.fusion.lsn_share)
        member_logits = lsn_logit(members)
        class_index = np.where(finite, np.nan_to_num(logits, nan=-np.inf).argmax(axis=1), -1)
        if self.fusion.mode == "paper":
            found = self.fusion.svm.classify(torch.from_numpy(np.nan_to_num(pairwise)).to(self.device)).cpu().numpy()
            class_index = np.where(finite, found, -1)
        calibration = self.bundle.calibration
        p_value = floor = stratum = None
        if calibration is not None:
            p_value, floor, stratum = calibration.p_value(log_odds, strata)
        return ScoreTable(
            probabilities=probabilities,
            p_lsn=expit(lsn),
            log_odds=log_odds,
            posterior=expit(log_odds + logit(self.prevalence)),
            member_log_prob=members,
            member_p_lsn=expit(member_logits),
            spread=member_logits.std(axis=1),
            pairwise=pairwise,
            class_index=class_index,
            p_value=p_value,
            p_value_floor=floor,
            stratum=stratum,
            finite=finite,
            prevalence=self.prevalence,
            bundle_id=self.bundle.id,
            bundle_sha256=self.bundle.sha256,
            calibration_id=None if calibration is None else calibration.calibration_id,
            device=self.device_name,
            precision=self.precision,
        )

    def _warm_up(self):
        """Load kernels and allocate memory before the first alert; a network that fails on nothing fails here."""
        sizes = (self.max_rows, 1) if self.device.type == "cuda" else (1,)
        for n in sizes:
            columns = self._evaluate([np.zeros((n, *shape), np.float32) for shape in self.row_shapes])
            if not np.isfinite(columns).all():
                raise StateError(f"bundle {self.bundle.id}: the networks' output for an empty example is not finite")
        LOG.info("bundle %s %s warm on %s, %s", self.bundle.id, self.bundle.sha256[:12], self.device_name, self.precision)


def padded_rows(n, device_type):
    """Rows that a chunk of n is padded to, so that few kernels, with few ways of rounding, are ever used.

    Matrix products of one to three rows take kernels that sum in another order than those of more rows, and rows beyond a
    multiple of four can do so too (measured with MKL and oneDNN; it moves probabilities by up to 3e-6). Multiples of eight
    give every row the same result to the bit, from 1 to 256 rows. On a GPU: the next power of two from 16.
    """
    if device_type == "cpu":
        return -(-n // ROWS_MULTIPLE) * ROWS_MULTIPLE
    return max(16, 1 << (n - 1).bit_length())


def _array(values):
    """float32, contiguous and writable, as torch wants it; no copy where it is so already."""
    array = np.ascontiguousarray(values, np.float32)
    return array if array.flags.writeable else array.copy()

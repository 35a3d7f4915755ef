"""The support vector machine over the members' class probabilities, as arrays, evaluated in torch in float64.

The decision function is libsvm's (Chang & Lin 2011, doi:10.1145/1961189.1961199): for classes i < j a sum over the support
vectors of both, positive for i. The pairwise values are smooth; votes over them, and scikit-learn's one-vs-rest values, jump.
"""

from dataclasses import dataclass, replace
from itertools import combinations

import torch

from dgl_broker.errors import ConfigError, StateError

KERNELS = ("linear", "poly", "rbf", "sigmoid")
N_FEATURES = 12  # three members' probabilities of four classes
N_CLASSES = 4
PAIRS = tuple(combinations(range(N_CLASSES), 2))
KERNEL_BLOCK_BYTES = {"cpu": 2**20, "other": 2**26}  # of the kernel matrix at a time: on a CPU what its cache holds


@dataclass(frozen=True, eq=False)
class SvmArrays:
    """A fitted SVM: S support vectors, sorted by class.

    `support_vectors` (S, 12) and `coefficients` (S, 6), one column per pair of `PAIRS`, and `intercepts` (6,) are float64
    tensors on one device; `n_support` counts the support vectors per class. `break_ties` is scikit-learn's option.
    """

    support_vectors: torch.Tensor
    coefficients: torch.Tensor
    intercepts: torch.Tensor
    n_support: tuple[int, ...]
    kernel: str
    gamma: float
    coef0: float = 0.0
    degree: int = 3
    C: float = 1.0
    break_ties: bool = True

    @classmethod
    def from_libsvm(cls, support_vectors, dual_coef, intercepts, n_support, **meta):
        """From scikit-learn's arrays: `dual_coef_` (3, S) holds, for class i, its coefficients against the other three."""
        vectors = torch.as_tensor(support_vectors, dtype=torch.float64)
        dual = torch.as_tensor(dual_coef, dtype=torch.float64)
        coefficients = torch.zeros(len(vectors), len(PAIRS), dtype=torch.float64)
        ends = torch.cumsum(torch.as_tensor(n_support), 0).tolist()
        starts = [0, *ends[:-1]]
        for pair, (i, j) in enumerate(PAIRS):
            coefficients[starts[i] : ends[i], pair] = dual[j - 1, starts[i] : ends[i]]
            coefficients[starts[j] : ends[j], pair] = dual[i, starts[j] : ends[j]]
        intercepts = torch.as_tensor(intercepts, dtype=torch.float64)
        return cls(vectors, coefficients, intercepts, tuple(int(n) for n in n_support), **meta)

    @classmethod
    def from_tensors(cls, tensors, meta):
        """From the tensors of `svm.safetensors` and the card's `fusion.svm`; errors name what was found and needed."""
        try:
            meta = dict(meta)
            kernel, n_support = meta.pop("kernel"), tuple(meta.pop("n_support"))
            numbers = {k: float(meta.pop(k)) for k in ("gamma", "coef0", "C")}
            degree, break_ties = int(meta.pop("degree")), bool(meta.pop("break_ties"))
        except (KeyError, TypeError, ValueError) as err:
            raise ConfigError(
                f"card: fusion.svm is {meta!r}, expected kernel, gamma, coef0, degree, C, break_ties and n_support"
            ) from err
        if kernel not in KERNELS:
            raise ConfigError(f"card: fusion.svm.kernel {kernel!r}, expected one of {', '.join(KERNELS)}")
        if len(n_support) != N_CLASSES or not all(type(n) is int and n >= 1 for n in n_support):
            raise ConfigError(f"card: fusion.svm.n_support {n_support}, expected {N_CLASSES} counts above 0")
        n = sum(n_support)
        needed = {
            "svm.support_vectors": (n, N_FEATURES),
            "svm.coefficients": (n, len(PAIRS)),
            "svm.intercepts": (len(PAIRS),),
        }
        arrays = [checked(tensors, name, size) for name, size in needed.items()]
        return cls(*arrays, n_support, kernel, degree=degree, break_ties=break_ties, **numbers)

    def tensors(self):
        """What `svm.safetensors` holds of it."""
        return {
            "svm.support_vectors": self.support_vectors,
            "svm.coefficients": self.coefficients,
            "svm.intercepts": self.intercepts,
        }

    def meta(self):
        """What the card's `fusion.svm` holds of it."""
        names = ("kernel", "gamma", "coef0", "degree", "C", "break_ties")
        return {name: getattr(self, name) for name in names} | {"n_support": list(self.n_support)}

    def to(self, device):
        """The same on another device."""
        return replace(self, **{k.removeprefix("svm."): v.to(device) for k, v in self.tensors().items()})

    def kernel_matrix(self, probabilities):
        """Kernel of probabilities (N, 12) with the support vectors, (N, S)."""
        if self.kernel == "rbf":
            return _square_distances(probabilities, self.support_vectors).mul_(-self.gamma).exp_()
        products = probabilities @ self.support_vectors.T
        if self.kernel == "linear":
            return products
        products = self.gamma * products + self.coef0
        return torch.tanh(products) if self.kernel == "sigmoid" else products**self.degree

    def pairwise(self, probabilities):
        """Decision values (N, 6) of the class pairs, scikit-learn's `decision_function` with shape "ovo".

        Memory stays bounded: the kernel matrix is made in blocks of samples.
        """
        probabilities = probabilities.double()
        size = KERNEL_BLOCK_BYTES["cpu" if probabilities.device.type == "cpu" else "other"]
        rows = max(1, size // (8 * len(self.support_vectors)))
        blocks = [self.kernel_matrix(block) @ self.coefficients for block in probabilities.split(rows)]
        return torch.cat(blocks) + self.intercepts if blocks else probabilities.new_zeros(0, len(PAIRS))

    def classify(self, pairwise):
        """Class index (N,) from pairwise values (N, 6), as scikit-learn's `predict`.

        Votes, ties going to the first class; with `break_ties` to the class with the larger sum of values.
        """
        votes, confidences = self._votes(pairwise)
        if self.break_ties:
            votes = votes + confidences / (3 * (confidences.abs() + 1))
        return votes.argmax(1)

    def _votes(self, pairwise):
        votes = pairwise.new_zeros(len(pairwise), N_CLASSES)
        confidences = votes.clone()
        for pair, (i, j) in enumerate(PAIRS):
            value = pairwise[:, pair]
            votes[:, i] += value > 0
            votes[:, j] += value <= 0
            confidences[:, i] += value
            confidences[:, j] -= value
        return votes, confidences


def _square_distances(a, b):
    """Squared distances (N, S); by products, so that N x S x 12 is never held. Rounding may give -1e-16, hence the clamp."""
    squares = (a * a).sum(1)[:, None] + (b * b).sum(1)[None, :]
    return torch.addmm(squares, a, b.T, alpha=-2.0).clamp_(min=0)


def checked(tensors, name, size):
    """Tensor `name` as float64 of shape `size`, finite; StateError where it is not so."""
    found = tensors.get(name)
    if found is None:
        raise StateError(f"svm.safetensors: no tensor {name}, expected float64 {list(size)}")
    if tuple(found.shape) != tuple(size) or found.dtype != torch.float64:
        kind = str(found.dtype).removeprefix("torch.")
        raise StateError(f"svm.safetensors: {name} is {kind} {list(found.shape)}, expected float64 {list(size)}")
    if not bool(torch.isfinite(found).all()):
        raise StateError(f"svm.safetensors: {name} holds values that are not finite")
    return found

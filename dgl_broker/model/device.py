"""Where the networks run: choosing the device, and feeding a GPU so that copies overlap with work."""

import contextlib
import logging

import torch

from dgl_broker.errors import ConfigError, DeviceUnavailable

LOG = logging.getLogger(__name__)
PRECISIONS = {"float32": torch.float32, "float16": torch.float16}


def choose_device(name):
    """The torch device for "cpu", "cuda", "cuda:N" or "auto", and its name for the records.

    "auto" takes a GPU where there is one and logs what it took; nothing else changes device by itself.

    Raises
    ------
    ConfigError
        Unknown name.
    DeviceUnavailable
        Asked for a GPU that is not there.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
        LOG.warning("device auto: running on %s", name)
    try:
        device = torch.device(name)
    except (RuntimeError, TypeError) as err:
        raise ConfigError(f"device {name!r}, expected cpu, cuda, cuda:N or auto") from err
    if device.type == "cpu":
        return torch.device("cpu"), "cpu"
    if device.type != "cuda":
        raise ConfigError(f"device {name!r}, expected cpu, cuda, cuda:N or auto")
    if not torch.cuda.is_available():
        raise DeviceUnavailable(f"device {name!r}: torch {torch.__version__} finds no CUDA device; use device cpu or auto")
    index = 0 if device.index is None else device.index
    if index >= torch.cuda.device_count():
        raise DeviceUnavailable(f"device {name!r}: there are {torch.cuda.device_count()} CUDA devices, counted from 0")
    return torch.device("cuda", index), f"cuda:{index} {torch.cuda.get_device_name(index)}"


def choose_precision(name, device):
    """Name and type of the networks' arithmetic; None is half precision on a GPU and float32 on a CPU."""
    name = name or ("float16" if device.type == "cuda" else "float32")
    if name not in PRECISIONS:
        raise ConfigError(f"precision {name!r}, expected one of {', '.join(PRECISIONS)}")
    return name, PRECISIONS[name]


@contextlib.contextmanager
def exact_arithmetic():
    """Inference with TF32 off and deterministic convolutions, whatever the process has set; restored afterwards."""
    matmul = torch.backends.cuda.matmul
    before = matmul.allow_tf32
    matmul.allow_tf32 = False
    try:
        with (
            torch.inference_mode(),
            torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=False),
        ):
            yield
    finally:
        matmul.allow_tf32 = before


class CpuFeed:
    """Runs chunks one after the other; the reference that `CudaFeed` must agree with."""

    def __init__(self, compute):
        self.compute = compute

    def run(self, arrays, chunks):
        """Output (N, K) of `compute` over arrays of N rows; `chunks` are (start, stop, padded rows)."""
        outputs = []
        for start, stop, rows in chunks:
            output = self.compute(*(_padded(array, start, stop, rows) for array in arrays))
            outputs.append(output[: stop - start])
        return torch.cat(outputs)


def _padded(array, start, stop, rows):
    part = torch.from_numpy(array[start:stop])
    if rows == stop - start:
        return part
    return torch.cat([part, part.new_zeros(rows - len(part), *part.shape[1:])])


class CudaFeed:
    """Feeds a GPU from two pinned slots: while one chunk is computed the next is copied.

    The host waits only for a slot to be free again and for the last result. Copies of inputs run on a stream of their own.
    """

    N_SLOTS = 2

    def __init__(self, compute, device, max_rows, row_shapes):
        self.compute, self.device = compute, device
        self.copying = torch.cuda.Stream(device)
        self.slots = [_Slot(device, max_rows, row_shapes) for _ in range(self.N_SLOTS)]
        torch.cuda.synchronize(device)  # the slots' memory is free before another stream writes to it

    def run(self, arrays, chunks):
        """Output (N, K) of `compute` over arrays of N rows; `chunks` are (start, stop, padded rows)."""
        with torch.cuda.device(self.device):
            return self._run(arrays, chunks)

    def _run(self, arrays, chunks):
        working = torch.cuda.current_stream(self.device)
        n = chunks[-1][1]
        results = None
        for number, (start, stop, rows) in enumerate(chunks):
            slot = self.slots[number % self.N_SLOTS]
            slot.copied.synchronize()  # its pinned memory is still being read until then
            for array, pinned in zip(arrays, slot.pinned):
                pinned[: stop - start].copy_(torch.from_numpy(array[start:stop]))
                pinned[stop - start : rows].zero_()
            with torch.cuda.stream(self.copying):
                self.copying.wait_event(slot.computed)
                for pinned, held in zip(slot.pinned, slot.held):
                    held[:rows].copy_(pinned[:rows], non_blocking=True)
                slot.copied.record(self.copying)
            working.wait_event(slot.copied)
            output = self.compute(*(held[:rows] for held in slot.held))
            slot.computed.record(working)
            if results is None:
                results = torch.empty(n, output.shape[1], dtype=output.dtype, pin_memory=True)
            results[start:stop].copy_(output[: stop - start], non_blocking=True)
        working.synchronize()
        return results


class _Slot:
    """Pinned host memory and device memory for one chunk, with the events that guard both."""

    def __init__(self, device, max_rows, row_shapes):
        self.pinned = [torch.empty(max_rows, *shape, pin_memory=True) for shape in row_shapes]
        self.held = [torch.empty(max_rows, *shape, device=device) for shape in row_shapes]
        self.copied, self.computed = torch.cuda.Event(), torch.cuda.Event()

"""`dgl-broker score`: images and light curves as arrays through a paper bundle."""

from pathlib import Path


def add_parser(subparsers):
    """Add the verb to the command."""
    parser = subparsers.add_parser("score", help="images and light curves as arrays through a paper bundle")
    parser.add_argument("--images", required=True, type=Path, metavar="X.npy", help="(N, 4, 45, 45) float32, griz")
    parser.add_argument("--light-curves", required=True, type=Path, metavar="Y.npy", help="(N, T, 4) float32")
    parser.add_argument("--bundle", required=True, help="a paper bundle: folder or id")
    parser.add_argument("--out", required=True, type=Path, metavar="scores.parquet")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--prevalence", type=float, default=1e-6)


COLUMNS = ("p_no_lens", "p_lens", "p_lensed_sn_ia", "p_lensed_sn_cc", "p_lsn", "log_odds", "posterior", "spread")


def run(args):
    """Score; the exit code. Samples that are constant or not finite have status `refused` and no scores."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    from dgl_broker.scorer import Scorer

    scorer = Scorer(bundle=args.bundle, device=args.device, prevalence=args.prevalence)
    images, light_curves = _load(args.images), _load(args.light_curves)
    scores = scorer.score_arrays(images, light_curves)
    n = len(scores)
    table = {
        "row": pa.array(range(n), pa.int64()),
        "status": ["scored" if ok else "refused" for ok in scores.usable],
        "reason": [None if ok else "constant_stamp" for ok in scores.usable],
    }
    table |= {name: pa.array(scores.column(name), pa.float64(), from_pandas=True) for name in COLUMNS}
    table |= {
        "bundle_id": [scorer.bundle_id] * n,
        "bundle_sha256": [scorer.bundle_sha256] * n,
        "device": [scorer.device_name] * n,
    }
    pq.write_table(pa.table(table), args.out, compression="zstd")
    print(f"{args.out}: {int(scores.usable.sum())} of {n} samples scored with {scorer.bundle_id}")
    return 0


def _load(path):
    import numpy as np

    from dgl_broker.errors import InputUnavailable

    try:
        return np.load(path, allow_pickle=False)
    except (OSError, ValueError) as error:
        raise InputUnavailable(f"{path}: no plain numpy array: {error}") from error

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
    from dgl_broker.archive.sinks import write_columns
    from dgl_broker.scorer import Scorer

    scorer = Scorer(bundle=args.bundle, device=args.device, prevalence=args.prevalence)
    images, light_curves = _load(args.images), _load(args.light_curves)
    scores = scorer.score_arrays(images, light_curves)
    n = len(scores)
    table = {
        "row": list(range(n)),
        "status": ["scored" if ok else "refused" for ok in scores.usable],
        "reason": [_reason(x, y) if not ok else None for x, y, ok in zip(images, light_curves, scores.usable)],
    }
    table |= {name: scores.column(name) for name in COLUMNS}
    table |= {
        "bundle_id": [scorer.bundle_id] * n,
        "bundle_sha256": [scorer.bundle_sha256] * n,
        "device": [scorer.device_name] * n,
    }
    write_columns(args.out, table)
    print(f"{args.out}: {int(scores.usable.sum())} of {n} samples scored with {scorer.bundle_id}")
    return 0


def _reason(image, light_curve):
    """Why a sample is refused, in the words of the stream."""
    import numpy as np

    if not (np.isfinite(image).all() and np.isfinite(light_curve).all()):
        return "not_finite"
    return "constant_stamp" if image.min() == image.max() else "constant_light_curve"


def _load(path):
    import numpy as np

    from dgl_broker.errors import InputUnavailable

    try:
        return np.load(path, allow_pickle=False)
    except (OSError, ValueError) as error:
        raise InputUnavailable(f"{path}: no plain numpy array: {error}") from error

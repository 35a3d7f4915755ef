"""`dgl-broker import-weights`: the authors' published weights into a bundle."""

from pathlib import Path

SETS = ("desi_dot", "lsst_wide", "des_wide", "des_deep")


def add_parser(subparsers):
    """Add the verb to the command."""
    parser = subparsers.add_parser(
        "import-weights",
        help="the authors' published weights into a bundle",
        description="Reads <their set>_<Net>_informed_network.pt of LoNet, GloNet and MuNet, tensors only, from DIR or "
        "DIR/<their set>, and writes a paper bundle. Their pickled SVM is not read.",
    )
    parser.add_argument("folder", type=Path, metavar="DIR", help="folder of the published checkpoints")
    parser.add_argument("--set", required=True, choices=SETS, dest="set_name", help="which of the paper's four sets")
    parser.add_argument("--out", required=True, type=Path, metavar="BUNDLE", help="folder of the bundle to write")
    parser.add_argument(
        "--svm-data",
        type=Path,
        metavar="DIR",
        help="GROUP_n_ims_T.npy and GROUP_n_lcs_T.npy, n = 1..4: half fits the SVM, half the regression; "
        "without, the members are fused by mean log-probability",
    )


def run(args):
    """Import; the exit code."""
    from dgl_broker.model.importer import import_weights

    bundle = import_weights(args.folder, args.set_name, args.out, args.svm_data)
    fusion = bundle.card["fusion"]["way"]
    print(f"{args.out}: bundle {bundle.id}, sha256 {bundle.sha256}, fused by {fusion}")
    if bundle.svm is not None:
        found = bundle.card["metrics"]["fusion"]
        print(f"SVM {found['svm']} on {found['n_svm']} samples, regression on {found['n_regression']}")
    return 0

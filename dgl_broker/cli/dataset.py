"""`dgl-broker dataset`: training data from real packets and labels, or straight from the simulator by a plan."""

import json
from pathlib import Path


def add_parser(subparsers):
    """Add the verb to the command."""
    parser = subparsers.add_parser("dataset", help="training data from packets with labels, or from the simulator")
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--packets", type=Path, metavar="DIR", help="alert packets; needs --labels")
    source.add_argument(
        "--simulate", metavar="PRESET", help="plan of a preset that ships (lsst_alert, ztf_alert) or a JSON file"
    )
    parser.add_argument("--labels", type=Path, metavar="labels.csv", help="survey, alert_id, class and what else is known")
    parser.add_argument("--out", required=True, type=Path, metavar="DIR")
    parser.add_argument(
        "--preset", metavar="PRESET", help="packets: whose input to make (default: that of the survey's alert bundle)"
    )
    parser.add_argument("--schemas", metavar="DIR|URL", help="packets: writers' schemas by id, for LSST")
    parser.add_argument("--splits", metavar="JSON", help='shares by split, such as \'{"train": 0.8, "test": 0.2}\'')
    parser.add_argument("--scale", type=float, default=1.0, help="simulate: times the plan's numbers of systems")
    parser.add_argument("--campaigns", nargs="+", metavar="NAME", help="simulate: only these of the plan")
    parser.add_argument("--workers", type=int, metavar="N", help="processes (default: all cores; 0: this one)")


def run(args):
    """Make the data set; the exit code."""
    from dgl_broker.errors import ConfigError
    from dgl_broker.training.shards import Table
    from dgl_broker.training.splits import leakage

    if args.packets:
        if not args.labels:
            raise ConfigError("--packets needs --labels")
        from dgl_broker.training.packets import dataset_of_packets

        splits = None
        if args.splits:
            try:
                splits = json.loads(args.splits)
            except ValueError as error:
                raise ConfigError(f"--splits {args.splits!r}: not JSON: {error}") from error
        counts = dataset_of_packets(args.packets, args.labels, args.out, args.preset, args.schemas, splits)
    else:
        from dgl_broker.training.dataset import make_dataset

        counts = make_dataset(scaled_plan(args.simulate, args.scale, args.campaigns), args.out, args.workers)
    for name, n in sorted(counts.items()):
        print(f"{name:32s} {n}")
    found = leakage(Table.open(args.out).labels)
    print(json.dumps(found["balance"], indent=1))
    print("in more than one split:", {k: found[k] for k in ("systems", "galaxies", "objects", "alerts")})
    return 0


def scaled_plan(name, scale=1.0, campaigns=None):
    """The plan of a preset with its numbers of systems times `scale`, whole shards at the least one."""
    from dgl_broker.errors import ConfigError
    from dgl_broker.training.presets import load_preset

    preset = load_preset(name)
    if "plan" not in preset:
        raise ConfigError(f"preset {name}: has no plan of what to simulate")
    plan = preset["plan"]
    if not scale > 0:
        raise ConfigError(f"--scale {scale}, expected above 0")
    if campaigns:
        unknown = sorted(set(campaigns) - {c["name"] for c in plan["campaigns"]})
        if unknown:
            raise ConfigError(f"--campaigns {unknown}, expected some of {[c['name'] for c in plan['campaigns']]}")
        plan["campaigns"] = [c for c in plan["campaigns"] if c["name"] in campaigns]
    for campaign in plan["campaigns"]:
        size = campaign.get("per_shard", 250)
        campaign["systems"] = max(1, round(campaign["systems"] * scale / size)) * size
    return plan

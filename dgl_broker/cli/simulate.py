"""`dgl-broker simulate`: systems, observations and alert packets from the simulator."""

from pathlib import Path

HELP = "systems, observations and alert packets from the simulator"
SURVEYS = ("lsst", "ztf")
PAPER_SETS = ("desi_dot", "lsst_wide", "des_wide", "des_deep")


def add_parser(subparsers):
    """Add the verb to the command."""
    parser = subparsers.add_parser("simulate", help=HELP, description=HELP)
    parser.add_argument(
        "--profile", required=True, choices=(*SURVEYS, *PAPER_SETS), help="a survey's alerts, or a paper set's arrays"
    )
    parser.add_argument("--n", type=int, default=1000, help="systems (default 1000)")
    parser.add_argument("--seed", type=int, default=1, help="of the run; systems follow from it and their number (default 1)")
    parser.add_argument(
        "--out", required=True, type=Path, metavar="DIR", help="finished shards in it are kept: run again to resume"
    )
    parser.add_argument("--packets", action="store_true", help="write packets beside labels.csv, not the labels alone")
    parser.add_argument(
        "--mix",
        default="even",
        help="kinds: even (default: classes equally, kinds equally in each), stream (rates in the sky), or kind=weight,...",
    )
    parser.add_argument(
        "--alerts-per-object",
        type=int,
        default=10,
        metavar="K",
        help="the first K alerts of each object (default 10); 0 for all",
    )
    parser.add_argument(
        "--recipe", choices=("physical", "published"), default="physical", help="of the paper sets (default physical)"
    )
    parser.add_argument(
        "--sn-off", action="store_true", help="paper sets: supernovae without flux, a control of what else tells the classes"
    )
    parser.add_argument("--workers", type=int, metavar="N", help="processes (default: one a core)")


def run(args):
    """Simulate; the exit code."""
    from dgl_broker.errors import ConfigError
    from dgl_broker.training.progress import bar

    if args.n < 1 or args.seed < 0 or args.alerts_per_object < 0:
        raise ConfigError(
            f"--n {args.n}, --seed {args.seed}, --alerts-per-object {args.alerts_per_object}: expected n >= 1, others >= 0"
        )
    if args.sn_off and args.profile not in PAPER_SETS:
        raise ConfigError(f"--sn-off: for the paper's sets ({', '.join(PAPER_SETS)}), not for {args.profile}")
    _check_profile(args)
    with bar(f"simulate {args.profile}", args.n, "systems") as advance:
        if args.profile in PAPER_SETS:
            from dgl_broker.sim.paper_sets import write_paper_set

            return write_paper_set(
                args.profile,
                args.n,
                args.seed,
                args.out,
                recipe=args.recipe,
                workers=args.workers,
                progress=advance,
                sn_off=args.sn_off,
            )
        from dgl_broker.sim.packet_files import write_packet_files

        count = write_packet_files(
            args.profile,
            args.n,
            args.seed,
            args.out,
            packets=args.packets,
            mix=args.mix,
            alerts_per_object=args.alerts_per_object,
            workers=args.workers,
            progress=advance,
        )
    print(f"{args.out}/labels.csv: {count} alerts of {args.n} systems")
    if args.packets and args.profile == "lsst":
        print(f"dgl-broker replay {args.out}/packets --survey lsst --schemas {args.out}/schemas --out scores.parquet")
    elif args.packets:
        print(f"dgl-broker replay {args.out}/packets --survey ztf --out scores.parquet")
    return 0


def _check_profile(args):
    """Refuse what the profile does not know: an option that changes nothing would pass for one that did."""
    from dgl_broker.errors import ConfigError

    others = {"recipe": "physical"} if args.profile in SURVEYS else {"packets": False, "mix": "even", "alerts_per_object": 10}
    for name, without in others.items():
        if getattr(args, name) != without:
            whose = "the paper's sets" if args.profile in SURVEYS else "the surveys"
            raise ConfigError(f"--{name.replace('_', '-')}: for {whose}, not for {args.profile}")

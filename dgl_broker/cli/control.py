"""`dgl-broker control`: what must not tell the classes apart, and what truly observed alerts score."""

import json
from pathlib import Path


def add_parser(subparsers):
    """Add the verb to the command."""
    parser = subparsers.add_parser("control", help="controls of simulated data and of real alerts, as results")
    what = parser.add_subparsers(dest="control", metavar="CONTROL", required=True)
    template = what.add_parser(
        "template", help="lensed classes from the template alone, among systems matched in redshifts and brightness"
    )
    template.add_argument("--data", action="append", required=True, metavar="DIR", help="shards of examples; may be repeated")
    template.add_argument("--survey", required=True, choices=["lsst", "ztf"], help="whose networks' widths to take")
    template.add_argument("--work", required=True, type=Path, metavar="DIR", help="state of the training")
    template.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N")
    template.add_argument("--seed", type=int, default=1)
    real = what.add_parser("real", help="scores of alerts that are known to be no lensed supernovae, against a threshold")
    real.add_argument("--scores", required=True, type=Path, metavar="TABLE", help="as replay writes it")
    real.add_argument("--filter", required=True, metavar="NAME", help="whose threshold and bundle: its name or file")
    real.add_argument(
        "--leave-out", action="append", default=[], metavar="TEXT", help="alerts whose source holds it; may be repeated"
    )
    for each in (template, real):
        each.add_argument("--result", required=True, type=Path, metavar="FILE", help="JSON, for docs/results/")


def run(args):
    """Make one control; the exit code."""
    from dgl_broker.errors import StateError

    found = _template(args) if args.control == "template" else _real(args)
    try:
        args.result.parent.mkdir(parents=True, exist_ok=True)
        args.result.write_text(json.dumps(found, indent=1) + "\n")
    except OSError as error:
        raise StateError(f"{args.result}: result cannot be written: {error}") from error
    print(json.dumps(found, indent=1))
    return 0


def _template(args):
    from dgl_broker.evaluation.results import rounded
    from dgl_broker.model.device import choose_device
    from dgl_broker.training.controls import template_control
    from dgl_broker.training.make import check_input, open_tables
    from dgl_broker.training.presets import load_preset

    card = load_preset(f"{args.survey}_alert")["card"]
    tables = open_tables(args.data, ("train", "validation", "test"))
    check_input(tables, card)
    device = str(choose_device(args.device)[0])
    return {"template_control": rounded(template_control(tables, card, args.work, device, args.seed))}


def _real(args):
    from dgl_broker.evaluation.real_alerts import real_alerts
    from dgl_broker.selection import load_filter

    return {"real_alerts": real_alerts(args.scores, load_filter(args.filter), args.leave_out)}

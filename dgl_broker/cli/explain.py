"""`dgl-broker explain`: one score made again from the kept bytes, compared with the record, and what moved it."""

import os
from pathlib import Path

EXIT_NOT_REPRODUCED = 1
HELP = "one score made again and compared: what the network saw, what each member and criterion said, what moved it"


def add_parser(subparsers):
    """Add the verb to the command."""
    parser = subparsers.add_parser("explain", help=HELP, description=HELP)
    parser.add_argument("scores", type=Path, metavar="scores.parquet", help="a table of `replay`, or a folder of them")
    parser.add_argument("alert_id", type=int, metavar="ALERT_ID", help="candid (ZTF) or diaSourceId (LSST)")
    parser.add_argument("--survey", choices=["ztf", "lsst"], help="where the table has both")
    parser.add_argument(
        "--packets",
        nargs="+",
        default=[],
        metavar="P",
        help="folders of kept packets, or alerts to be searched; by default what was kept beside the table",
    )
    parser.add_argument("--bundle", help="folder of the bundle that scored it; by default found among those that ship, by hash")
    parser.add_argument("--filters", action="append", default=[], metavar="F", help="files of the filters that judged it")
    parser.add_argument("--schemas", default=os.environ.get("DGL_SCHEMAS"), metavar="DIR|URL", help="writers' schemas by id")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--out", type=Path, metavar="PAGE.html", help="default: explain_<alert id>.html in this folder")


def run(args):
    """Explain; 0 where the score was reproduced, 1 where not."""
    from dgl_broker.explain.explanation import explain
    from dgl_broker.explain.page import explanation_page
    from dgl_broker.explain.text import explanation_text
    from dgl_broker.html.page import write_page
    from dgl_broker.wire import schema_source

    found = explain(
        args.scores,
        args.alert_id,
        args.survey,
        args.packets,
        args.bundle,
        args.filters,
        schema_source(args.schemas),
        args.device,
    )
    print(explanation_text(found))
    page = write_page(args.out or Path(f"explain_{args.alert_id}.html"), explanation_page(found))
    print(f"Page: {page.resolve()}")
    return 0 if found.comparison.reproduced else EXIT_NOT_REPRODUCED

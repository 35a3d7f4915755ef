"""`dgl-broker rekey`: alerts past the pre-cuts, slimmed to what scoring needs, to a topic keyed by object, exactly once."""

from dgl_broker.cli.streaming import add_arguments, stream


def add_parser(subparsers):
    """Add the verb to the command."""
    parser = subparsers.add_parser("rekey", help="alerts past the pre-cuts, slimmed, to a topic keyed by object")
    add_arguments(parser, "rekey.yaml")


def run(args):
    """Rekey; 0 when what was asked for is read, 128 + the signal when one ended it, else the error's own code."""
    from dgl_broker.settings_rekey import load_rekey_settings

    settings = load_rekey_settings(args.config)

    def make_worker(stop, progress):
        from dgl_broker.stream.rekey import RekeyWorker

        return RekeyWorker(settings, stop, progress)

    return stream(args, settings, make_worker, {"verb": "rekey"}, done="written")

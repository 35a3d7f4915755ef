"""`dgl-broker serve`: scores over HTTP, of packets sent to it and of alerts that the filter has scored."""

from pathlib import Path


def add_parser(subparsers):
    """Add the verb to the command."""
    parser = subparsers.add_parser("serve", help="scores over HTTP: of packets sent to it, and of what the filter published")
    parser.add_argument("--config", required=True, type=Path, metavar="serve.yaml")
    parser.add_argument("--check", action="store_true", help="say what is wrong with the configuration, and end")
    parser.add_argument("--openapi", action="store_true", help="print the description of the API, and end")


def run(args):
    """Serve; 128 + the signal that ended it, else the error's own code."""
    import logging
    import sys

    from dgl_broker.errors import ConfigError, DglError

    try:
        from dgl_broker.serve.serve_settings import check_serve_settings, load_serve_settings
        from dgl_broker.serve.server import Service
    except ModuleNotFoundError as error:
        raise ConfigError(f"serve needs {error.name}: pip install 'dgl-broker[serve]'") from error
    from dgl_broker.observe.log import set_up_log
    from dgl_broker.stream.stopping import Stop

    if args.check:
        return _check(args.config, *check_serve_settings(args.config))
    settings = load_serve_settings(args.config)
    if args.openapi:
        return _print_openapi(settings)
    with Stop() as stop:
        set_up_log(settings.log.format, settings.log.level, settings.secrets(), sys.stderr)
        log = logging.getLogger("dgl_broker")
        try:
            Service(settings, stop).run()
        except DglError as error:
            log.error("%s", error)
            return error.exit_code
        except Exception:  # noqa: BLE001 - a device, a bug: whatever it is, it must not be told past the log
            log.exception("unforeseen")
            return 1
    return stop.exit_code


def _check(path, settings, problems):
    from dgl_broker.errors import ConfigError

    for problem in problems:
        print(problem)
    print(f"{path}: {len(problems) or 'nothing'} wrong")
    return ConfigError.exit_code if problems else 0


def _print_openapi(settings):
    import json

    from dgl_broker.serve.app import make_app

    print(json.dumps(make_app(settings, None, None, dict).openapi(), indent=1))
    return 0

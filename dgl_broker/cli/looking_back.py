"""What the verbs that look back share: times on the command line, and errors told by the log."""


def parse_time(text, option):
    """An ISO time as ms since 1970; UTC where no zone is given.

    Raises
    ------
    ConfigError
        If it is none.
    """
    from dgl_broker.errors import ConfigError
    from dgl_broker.settings import parse_start

    try:
        when = parse_start(text)
    except ValueError:
        when = None
    if not isinstance(when, int):
        raise ConfigError(f"{option} {text}, expected an ISO time such as 2026-11-22T04:00")
    return when


def told_by_log(settings, work):
    """The exit code of `work()`. What fails is told by the log, which leaves the settings' secrets out."""
    import logging
    import sys

    from dgl_broker.errors import DglError
    from dgl_broker.observe.log import set_up_log

    set_up_log(settings.log.format, settings.log.level, settings.secrets(), sys.stderr)
    log = logging.getLogger("dgl_broker")
    try:
        return work()
    except DglError as error:
        log.error("%s", error)
        return error.exit_code
    except Exception:  # noqa: BLE001 - a device, a bug: whatever it is, it must not be told past the log
        log.exception("unforeseen")
        return 1


def printable(text):
    """Text that came out of a packet, unable to steer a terminal."""
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)

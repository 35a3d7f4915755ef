"""What can go wrong, and what each means for the process.

DglError
  ConfigError          usage or configuration                                   exit 2
  InputUnavailable     a file, topic or schema cannot be had                    exit 3
  DeviceUnavailable    the device asked for is not there                        exit 4
  ServiceFailed        Kafka or a registry failed too often in a row            exit 5
  StateError           state or disk cannot be written or trusted               exit 6
  GuardRefused         a guard refused an activation, a refresh                 exit 7
  PacketError          one message cannot be read: it becomes a dead letter
  NotScorable          one alert cannot be scored: it becomes a counted refusal

The last two concern one message and never end the process; everything else leaves `pipeline` and does.
"""


class DglError(Exception):
    """Base of all errors that this package raises on purpose; `exit_code` is what the command ends with."""

    exit_code = 1


class ConfigError(DglError):
    """Configuration or usage is wrong: names the key, what was found and what was expected."""

    exit_code = 2


class InputUnavailable(DglError):
    """An input file, topic or schema is not to be had."""

    exit_code = 3


class DeviceUnavailable(DglError):
    """The device asked for does not exist here; nothing falls back in silence."""

    exit_code = 4


class ServiceFailed(DglError):
    """Kafka or the schema registry failed too often in a row."""

    exit_code = 5


class StateError(DglError):
    """State or disk cannot be written, or what lies there cannot be trusted."""

    exit_code = 6


class GuardRefused(DglError):
    """A guard refused what was asked; the message says which and why, `reasons` the same one by one."""

    exit_code = 7

    def __init__(self, message, reasons=()):
        super().__init__(message)
        self.reasons = tuple(reasons) or (message,)


class PacketError(DglError):
    """A message that cannot be read.

    Parameters
    ----------
    reason : str
        Short label for counters, snake case: `truncated`, `sync_marker`, `unknown_schema`, `missing_field`, ...
    detail : str
        The alert where known, what was found and what was needed.
    """

    def __init__(self, reason, detail):
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail


class NotScorable(DglError):
    """An alert that is read but cannot be scored; `reason` is counted, `detail` is for people."""

    def __init__(self, reason, detail):
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail

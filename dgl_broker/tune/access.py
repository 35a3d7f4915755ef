"""Who may ask the page, and who may change something: the host and origin of a request, and a token.

The page is for people on this machine, or behind a proxy of theirs. A page of any other site, open in the same browser, can
send requests to it as well: so each must name this host (or a name could be pointed at this machine), and what is sent must
come from this very page.
"""

import hmac
import ipaddress
import os
from dataclasses import dataclass
from urllib.parse import urlsplit

from dgl_broker.errors import ConfigError

TOKEN_VARIABLE = "DGL_TUNE_TOKEN"
SHORTEST_TOKEN = 16  # characters; a shorter one can be guessed
LOOPBACK_NAMES = ("localhost", "127.0.0.1", "::1")
SAFE_METHODS = ("GET", "HEAD")
# All that the page loads is its own; pictures come inside its answers. Plots set styles of their elements.
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
HEADERS = (
    (b"content-security-policy", POLICY.encode()),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"x-frame-options", b"DENY"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
)


class Denied(Exception):
    """A request that is not answered: `status` and why."""

    def __init__(self, status, why):
        super().__init__(why)
        self.status = status


@dataclass(frozen=True)
class Access:
    """The rules.

    Attributes
    ----------
    hosts : frozenset of str
        Names by which the page may be asked for, without port.
    token : str or None
        Without one nothing can be changed.
    """

    hosts: frozenset
    token: str | None = None

    def __repr__(self):
        return f"Access(hosts={sorted(self.hosts)}, token={'set' if self.token else None})"

    @property
    def read_only(self):
        """Whether nothing can be changed by anyone."""
        return self.token is None

    def check_request(self, method, headers):
        """Nothing, if a request may be answered; `headers` maps lower-case names to values.

        Raises
        ------
        Denied
        """
        host = headers.get("host", "")
        if host_name(host) not in self.hosts:
            raise Denied(403, f"host {host_name(host)!r} is not this page's; start it with --allow-host if it is")
        if method in SAFE_METHODS:
            return
        origin = headers.get("origin")
        if origin is not None and urlsplit(origin).netloc.lower() != host.lower():
            raise Denied(403, f"origin {origin!r} is not this page")
        if headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
            raise Denied(403, "the request comes from another site")
        if headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
            raise Denied(415, "content-type, expected application/json")

    def check_token(self, authorization):
        """Nothing, if the bearer may change something.

        Raises
        ------
        Denied
        """
        if self.token is None:
            raise Denied(403, f"nothing can be changed: the page was started without {TOKEN_VARIABLE}")
        kind, _, given = (authorization or "").partition(" ")
        if kind.lower() != "bearer" or not hmac.compare_digest(given.strip().encode(), self.token.encode()):
            raise Denied(401, "the token is missing or wrong")


def host_name(host):
    """The name in a Host header, without port and brackets, in lower case."""
    try:
        return (urlsplit(f"//{host}").hostname or "").lower()
    except ValueError:
        return ""


def is_loopback(host):
    """Whether an address to bind to is this machine's alone."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def make_access(host, allowed=(), environ=None):
    """The rules for a page bound to `host`, its token from the environment.

    Raises
    ------
    ConfigError
        If the token is too short, or `host` is open to others and there is none.
    """
    token = (os.environ if environ is None else environ).get(TOKEN_VARIABLE) or None
    if token is not None and (len(token) < SHORTEST_TOKEN or token != token.strip() or not token.isascii()):
        raise ConfigError(f"{TOKEN_VARIABLE}: expected at least {SHORTEST_TOKEN} characters of ASCII, without spaces around")
    if not is_loopback(host) and token is None:
        raise ConfigError(f"--host {host}: others can reach it, so {TOKEN_VARIABLE} must be set")
    named = () if host in ("0.0.0.0", "::") else (host,)
    return Access(frozenset(h.lower() for h in (*LOOPBACK_NAMES, *named, *allowed)), token)

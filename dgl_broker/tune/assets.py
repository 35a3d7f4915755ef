"""What the page is made of: its own files, and plotly's as the `plotly` package brings it. Nothing from elsewhere."""

import gzip
import hashlib
from dataclasses import dataclass
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path

from dgl_broker.errors import InputUnavailable
from dgl_broker.html import bands

PAGE = Path(__file__).with_name("page")
TYPES = {".html": "text/html; charset=utf-8", ".css": "text/css; charset=utf-8", ".js": "text/javascript; charset=utf-8"}
PLOTLY = "plotly.min.js"


@dataclass(frozen=True, eq=False)
class Asset:
    """One file: its bytes, gzipped as well, its type and a tag that changes with them."""

    content: bytes
    gzipped: bytes
    type: str
    tag: str


def names():
    """Names of all files that the page may ask for."""
    return (*sorted(p.name for p in PAGE.iterdir() if p.suffix in TYPES), PLOTLY)


@lru_cache(maxsize=32)
def asset(name):
    """One of `names`.

    Raises
    ------
    InputUnavailable
        If plotly is not installed.
    """
    path = plotly_file() if name == PLOTLY else PAGE / name
    content = path.read_bytes()
    if path.suffix == ".css":
        light, dark = bands.css()
        content = content.replace(b"LIGHT_BANDS", light.encode()).replace(b"DARK_BANDS", dark.encode())
    tag = f'"{hashlib.sha256(content).hexdigest()[:16]}"'
    return Asset(content, gzip.compress(content, 6, mtime=0), TYPES[path.suffix], tag)


def plotly_file():
    """Path of plotly's script in the installed package; the package itself, which takes a second to import, is not.

    Raises
    ------
    InputUnavailable
        If there is none.
    """
    spec = find_spec("plotly")
    for place in (spec.submodule_search_locations if spec else None) or ():
        path = Path(place) / "package_data" / PLOTLY
        if path.is_file():
            return path
    raise InputUnavailable("plotly is not installed: pip install 'dgl-broker[tune]'")

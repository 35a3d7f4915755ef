"""Known lenses: the separation of a position from the nearest one, from the table of the `lenscat` project, offline.

The table (https://github.com/lenscat/lenscat, MIT; 32,838 rows in 1.1.3) is read from its CSV. The package itself is no
dependency, since it brings pandas and ligo.skymap for what is a text file: `pip install --no-deps lenscat` puts the file where
it is found.

What a match is worth: of the lensed supernovae found from the ground about one in three lay on a lens that was known before, so
this is a reason to look and no criterion to demand.
"""

import csv
import os
import re
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from dgl_broker.errors import ConfigError, InputUnavailable

TABLE_VARIABLE = "DGL_LENS_TABLE"
COLUMNS = ("name", "RA [deg]", "DEC [deg]", "type", "grading", "ref")
TYPES, GRADINGS = ("galaxy", "group", "cluster"), ("confident", "probable")
ARCSEC_PER_RADIAN = 648000.0 / np.pi

# Optical and X-ray searches for clusters of galaxies, which say nothing of lensing; lenscat types their rows "galaxy". A row
# whose every reference is among them is no lens candidate. The largest alone, the first here, has 9,955 rows.
CLUSTER_SURVEYS = {
    "Lopes et al. (2004)": "Northern Sky Optical Cluster Survey IV, doi:10.1086/423038",
    "Gonzalez et al. (2001)": "Las Campanas Distant Cluster Survey, arXiv:astro-ph/0106055",
    "Gioia et al. (1990)": "Einstein Medium Sensitivity Survey, doi:10.1086/191426",
    "Gladders et al. (2005)": "Red-Sequence Cluster Survey I, arXiv:astro-ph/0411075",
    'B\\"ohringer et al. (2000)': "NORAS, arXiv:astro-ph/0003219",
    'B\\"ohringer et al. (2004)': "REFLEX, arXiv:astro-ph/0405546",
    "Ebeling et al. (1998)": "ROSAT Brightest Cluster Sample I, arXiv:astro-ph/9812394",
    "Ebeling et al. (2000)": "ROSAT Brightest Cluster Sample IV, arXiv:astro-ph/0003191",
    "Popesso et al. (2004)": "RASS-SDSS clusters I, arXiv:astro-ph/0403354",
    "Menanteau et al. (2010)": "Southern Cosmology Survey II, arXiv:1002.2226",
    "Olsen et al. (2006)": "CFHTLS matched-filter clusters, arXiv:astro-ph/0609815",
    "van Breukelen et al. (2006)": "UKIDSS clusters, arXiv:astro-ph/0608624",
    "Pierre et al. (2006)": "XMM-LSS clusters, arXiv:astro-ph/0607170",
}
_BETWEEN_REFERENCES = re.compile(r"\s*\|\s*|\s+(?=http)")


def is_cluster_survey_row(references):
    """Whether every reference of a row is a search for clusters, none one for lenses."""
    parts = [part for part in _BETWEEN_REFERENCES.split(references.strip()) if part]
    return bool(parts) and all(part.startswith(tuple(CLUSTER_SURVEYS)) for part in parts)


def _unit_vectors(ra_deg, dec_deg):
    ra, dec = np.radians(ra_deg), np.radians(dec_deg)
    return np.stack([np.cos(dec) * np.cos(ra), np.cos(dec) * np.sin(ra), np.sin(dec)], axis=-1)


class KnownLenses:
    """Positions of lenses.

    Parameters
    ----------
    ra_deg, dec_deg : array, shape (n,)
        ICRS [deg].
    names : sequence of str
    """

    def __init__(self, ra_deg, dec_deg, names):
        self.names = tuple(names)
        self._vectors = _unit_vectors(np.asarray(ra_deg, float), np.asarray(dec_deg, float))

    def __len__(self):
        return len(self.names)

    def nearest(self, ra_deg, dec_deg):
        """Separation [arcsec] of the nearest lens and its name; (inf, None) for an empty table.

        20 us for 20,000 lenses. The nearest is found by the cosine (good to 0.005 arcsec), its separation by the chord, exact
        at small angles.
        """
        if not self.names:
            return np.inf, None
        here = _unit_vectors(ra_deg, dec_deg)
        at = int(np.argmax(self._vectors @ here))
        chord = float(np.linalg.norm(self._vectors[at] - here))
        return 2.0 * float(np.arcsin(min(1.0, 0.5 * chord))) * ARCSEC_PER_RADIAN, self.names[at]


def read_table(path, types=("galaxy", "group"), gradings=GRADINGS, cluster_surveys=False):
    """Lenses of a CSV with lenscat's columns (`name, RA [deg], DEC [deg], zlens, type, grading, ref`).

    Parameters
    ----------
    path : path
    types, gradings : collection of str
        Rows to take. A cluster's centre may be a minute of arc from its images, so clusters are a table of their own.
    cluster_surveys : bool
        Whether to keep rows that only searches for clusters of galaxies stand for.

    Raises
    ------
    InputUnavailable
        If the file is not to be had.
    ConfigError
        If it is not such a table.
    """
    path = Path(path)
    ra, dec, names = [], [], []
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            missing = [c for c in COLUMNS if c not in (reader.fieldnames or ())]
            if missing:
                raise ConfigError(f"{path}: no column {', '.join(missing)}, expected lenscat's {', '.join(COLUMNS)}")
            for row in reader:
                position = _position(row, f"{path}:{reader.line_num}")
                wanted = row["type"] in types and row["grading"] in gradings
                if wanted and (cluster_surveys or not is_cluster_survey_row(row["ref"] or "")):
                    ra.append(position[0])
                    dec.append(position[1])
                    names.append(row["name"])
    except OSError as error:
        raise InputUnavailable(f"{path}: {error.strerror}") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise ConfigError(f"{path}: no CSV table: {error}") from error
    return KnownLenses(ra, dec, names)


def _position(row, where):
    try:
        ra, dec = float(row["RA [deg]"]), float(row["DEC [deg]"])
    except (TypeError, ValueError):
        ra = dec = np.nan
    if not (0.0 <= ra <= 360.0 and -90.0 <= dec <= 90.0):
        found = f"{row['RA [deg]']!r}, {row['DEC [deg]']!r}"
        raise ConfigError(f"{where}: position {found}, expected 0 to 360 and -90 to 90 degrees")
    return ra, dec


def find_table(path=None):
    """Path of the table: the one given, else that of `DGL_LENS_TABLE`, else that of an installed `lenscat`.

    Raises
    ------
    InputUnavailable
        If there is none; says how to get it.
    """
    named = path or os.environ.get(TABLE_VARIABLE)
    if named:
        return Path(named)
    spec = find_spec("lenscat")  # finds the package without importing it
    for place in (spec and spec.submodule_search_locations) or ():
        table = Path(place) / "data" / "catalog.csv"
        if table.is_file():
            return table
    raise InputUnavailable(
        f"no table of known lenses: set {TABLE_VARIABLE} to lenscat's catalog.csv, or pip install --no-deps lenscat"
    )


@lru_cache(maxsize=8)
def known_lenses(kind="galaxy", path=None):
    """The known lenses of galaxy and group scale (`kind="galaxy"`) or of cluster scale, read once in the life of the process.

    Raises
    ------
    InputUnavailable, ConfigError
        As `find_table` and `read_table`.
    """
    return read_table(find_table(path), ("cluster",) if kind == "cluster" else ("galaxy", "group"))

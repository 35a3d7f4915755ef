"""Known lenses from a made-up table with lenscat's columns; and from lenscat's own where it is installed or named."""

import os

import numpy as np
import pytest

from dgl_broker.errors import ConfigError, InputUnavailable
from dgl_broker.selection import known_lenses
from dgl_broker.selection.known_lenses import KnownLenses, find_table, is_cluster_survey_row, read_table

HEADER = "name,RA [deg],DEC [deg],zlens,type,grading,ref"
LOPES = "Lopes et al. (2004) - doi:10.1086/423038"
HUANG = "Huang et al. (2021) - arXiv:2005.04730"
ROWS = [
    f"confident galaxy,10.0,20.0,0.5,galaxy,confident,{HUANG}",
    f"probable galaxy,10.1,20.0,not measured,galaxy,probable,{HUANG}",
    f"group,10.2,20.0,-,group,probable,{HUANG}",
    f"cluster,10.3,20.0,0.3,cluster,confident,{HUANG}",
    f"NSCS candidate,10.4,20.0,-,galaxy,probable,{LOPES}",
    f'"in both, with a comma",10.5,20.0,-,galaxy,probable,{LOPES} | {HUANG}',
    f"graded by mistake,10.6,20.0,-,galaxy,confident,Olsen et al. (2006) - arXiv:astro-ph/0609815 | {LOPES}",
]


@pytest.fixture
def table(tmp_path):
    path = tmp_path / "catalog.csv"
    path.write_text("\n".join([HEADER, *ROWS]) + "\n")
    return path


def test_cluster_candidates_typed_as_galaxies_are_no_lenses(table):
    assert read_table(table).names == ("confident galaxy", "probable galaxy", "group", "in both, with a comma")
    assert len(read_table(table, cluster_surveys=True)) == 6
    assert read_table(table, ("cluster",)).names == ("cluster",)
    assert read_table(table, gradings=("confident",)).names == ("confident galaxy",)


@pytest.mark.parametrize(
    ("references", "expected"),
    [
        (LOPES, True),
        (f"{LOPES} | {HUANG}", False),
        (HUANG, False),
        ("https://arxiv.org/abs/2004.00634 https://arxiv.org/abs/2312.07333", False),
        ('B\\"ohringer et al. (2000) - arXiv:astro-ph/0003219 | Ebeling et al. (1998) - arXiv:astro-ph/9812394', True),
        ("", False),
    ],
)
def test_a_row_is_a_cluster_candidate_when_all_its_references_are_cluster_searches(references, expected):
    assert is_cluster_survey_row(references) is expected


def test_separations_agree_with_astropy():
    from astropy import units as u
    from astropy.coordinates import SkyCoord

    rng = np.random.default_rng(1)
    ra, dec = rng.uniform(0, 360, 500), np.degrees(np.arcsin(rng.uniform(-1, 1, 500)))
    lenses = KnownLenses(ra, dec, [str(i) for i in range(500)])
    there = SkyCoord(ra * u.deg, dec * u.deg)
    near = [(359.9999, 89.9999), (0.0, -90.0), (ra[7] + 1e-4, dec[7] - 1e-4), (ra[11], dec[11]), (180.0, 0.0)]
    for point in near:
        sep = SkyCoord(*point, unit="deg").separation(there).arcsec
        found, name = lenses.nearest(*point)
        assert int(name) == int(np.argmin(sep))
        assert found == pytest.approx(sep.min(), abs=1e-5)  # float64 on the unit sphere: 1e-16 rad in 1e-9 of a chord


def test_an_empty_table_has_nothing_near(tmp_path):
    path = tmp_path / "empty.csv"
    path.write_text(HEADER + "\n")
    assert read_table(path).nearest(1.0, 2.0) == (np.inf, None)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("name,ra,dec\nA,1,2\n", "no column RA \\[deg\\], DEC \\[deg\\], type, grading, ref"),
        (f"{HEADER}\nA,361,2,-,galaxy,confident,x\n", "catalog.csv:2: position '361', '2', expected 0 to 360"),
        (f"{HEADER}\nA,one,2,-,galaxy,confident,x\n", "position 'one', '2'"),
        (f"{HEADER}\nA,nan,2,-,galaxy,confident,x\n", "position 'nan', '2'"),
        (f"{HEADER}\nA,1\n", "position '1', None"),
        ("", "no column name"),
    ],
)
def test_what_is_no_such_table_is_a_configuration_error(tmp_path, text, why):
    path = tmp_path / "catalog.csv"
    path.write_text(text)
    with pytest.raises(ConfigError, match=why):
        read_table(path)


def test_bytes_that_are_no_text_are_a_configuration_error(tmp_path):
    path = tmp_path / "catalog.csv"
    path.write_bytes(b"\xff\xfe\x00\x00")
    with pytest.raises(ConfigError, match="no CSV table"):
        read_table(path)


def test_the_table_is_the_one_named_else_that_of_an_installed_lenscat(table, tmp_path, monkeypatch):
    monkeypatch.setenv(known_lenses.TABLE_VARIABLE, str(table))
    assert find_table() == table
    assert find_table(tmp_path / "other.csv") == tmp_path / "other.csv"
    monkeypatch.delenv(known_lenses.TABLE_VARIABLE)
    package = tmp_path / "site" / "lenscat"
    (package / "data").mkdir(parents=True)
    (package / "__init__.py").write_text("raise ImportError('must not be imported')")
    (package / "data" / "catalog.csv").write_text(table.read_text())
    monkeypatch.syspath_prepend(package.parent)
    assert find_table() == package / "data" / "catalog.csv"


def test_no_table_says_how_to_get_one(monkeypatch):
    monkeypatch.delenv(known_lenses.TABLE_VARIABLE, raising=False)
    monkeypatch.setattr(known_lenses, "find_spec", lambda name: None)
    with pytest.raises(InputUnavailable, match="pip install --no-deps lenscat"):
        find_table()


@pytest.mark.skipif("DGL_LENSCAT_CSV" not in os.environ, reason="DGL_LENSCAT_CSV names no catalog.csv of lenscat 1.1.3")
def test_lenscats_own_table_of_version_1_1_3():
    path = os.environ["DGL_LENSCAT_CSV"]
    # Counts by grep and pandas: 32,838 rows; 1,023 clusters; behind 13,707 of the others stand cluster searches alone, 9,954 of
    # them NSCS rows of Lopes et al. (the 9,955th, J143910+120841, is a lens candidate of Moustakas et al. as well).
    assert len(read_table(path, known_lenses.TYPES, cluster_surveys=True)) == 32838
    assert len(read_table(path, ("cluster",), cluster_surveys=True)) == 1023
    lenses = read_table(path)
    assert len(lenses) == 32838 - 1023 - 13707
    assert [name for name in lenses.names if name.startswith("NSCS")] == [
        "NSCS J143910+120841 | [J143910+120839] | [J143910+120838]"
    ]
    assert lenses.nearest(294.605380, 66.814710) == (pytest.approx(0.0, abs=1e-6), "B1938+666")

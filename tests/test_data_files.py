"""Shipped schemas and filters are found in a checkout and in a wheel alike."""

import pytest

from dgl_broker import data_files
from dgl_broker.errors import InputUnavailable


def test_shipped_filters_are_found_by_name_with_or_without_suffix():
    assert data_files.filter_path("lensed_sn_lsst") == data_files.filter_path("lensed_sn_lsst.yaml")
    assert data_files.filter_path("lensed_sn_lsst").read_text().startswith("#")


@pytest.mark.parametrize("wheel", [True, False])
def test_files_inside_the_package_come_before_those_beside_it(tmp_path, monkeypatch, wheel):
    # a wheel has dgl_broker/schemas/ and dgl_broker/filters/ (setup.py, package_dir); a checkout has them beside dgl_broker/
    package = tmp_path / "dgl_broker"
    for parent in [tmp_path] + [package] * wheel:
        for folder, name in (("schemas", "score.avsc"), ("filters", "f.yaml")):
            (parent / folder).mkdir(parents=True)
            (parent / folder / name).write_text(str(parent))
    monkeypatch.setattr(data_files, "_PACKAGE", package / "data_files.py")
    expected = str(package if wheel else tmp_path)
    assert data_files.schema_path("score.avsc").read_text() == expected
    assert data_files.filter_path("f").read_text() == expected


def test_what_does_not_ship_is_named_beside_what_does():
    with pytest.raises(InputUnavailable, match="no shipped file filters/nothing.yaml; there are: .*lensed_sn_ztf.yaml"):
        data_files.filter_path("nothing")

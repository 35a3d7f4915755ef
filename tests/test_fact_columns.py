"""Facts beside the scores of a replay: the values that pre-cuts were judged on."""

from types import SimpleNamespace

import pyarrow as pa

from dgl_broker.archive.fact_columns import FactColumns
from dgl_broker.archive.sinks import table_schema
from dgl_broker.selection import parse_filter

FILTER = parse_filter(
    """
name: f
version: 1
survey: ztf
require:
  reliability: {min: 0.2}
  is_positive: {equals: true}
  band: {in: [g, r]}
  bright: {fact: absolute_magnitude, max: -19}
threshold: 1
"""
)


def alert(**facts):
    return SimpleNamespace(facts=facts)


def test_an_ungated_table_has_the_facts_of_all_criteria_and_a_gated_one_those_that_results_are_split_by():
    split = ("n_detections", "days_since_first", "magnitude", "snr")
    assert FactColumns([FILTER], ungated=False).names == split
    assert FactColumns([FILTER], ungated=True).names == (*split, "reliability", "is_positive", "band", "absolute_magnitude")


def test_facts_keep_their_kinds_and_what_is_unknown_is_null():
    columns = FactColumns([FILTER], ungated=True)
    known = columns.of(alert(n_detections=3, snr=7, reliability=0.5, is_positive=True, band="g"))
    assert known["fact.n_detections"] == 3.0 and known["fact.is_positive"] is True and known["fact.band"] == "g"
    # Unknown: not in the packet, not a number, a text where a number belongs, and derived from what is not there.
    odd = columns.of(alert(reliability=float("nan"), snr="bright"))
    assert odd["fact.reliability"] is odd["fact.snr"] is odd["fact.is_positive"] is odd["fact.absolute_magnitude"] is None


def test_derived_facts_are_worked_out():
    # Distance modulus at z = 0.1 is 38.3152 mag in flat LCDM with H0 = 70, Omega_m = 0.3 (astropy, FlatLambdaCDM).
    found = FactColumns([FILTER], ungated=True).of(alert(host_redshift=0.1, magnitude=18.0))["fact.absolute_magnitude"]
    assert abs(found - (18.0 - 38.3152)) < 1e-3


def test_the_columns_come_last_with_types_of_their_own():
    schema = table_schema(["f.reliability"], FactColumns([FILTER], ungated=True))
    assert schema.field("fact.reliability").type == pa.float64() and schema.field("fact.is_positive").type == pa.bool_()
    assert schema.field("fact.band").type == pa.string() and schema.names[-1] == "fact.absolute_magnitude"

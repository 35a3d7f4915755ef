"""Filters: files, criteria, pre-cuts in two stages, verdicts. Expected values are worked out by hand unless said otherwise."""

import math
import pickle
import subprocess
import sys
from dataclasses import replace
from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dgl_broker.errors import ConfigError, GuardRefused, InputUnavailable
from dgl_broker.selection import (
    Filter,
    FilterSet,
    OperatingPoint,
    content_sha256,
    dump_filter,
    load_filter,
    parse_criteria,
    parse_filter,
    predicate,
)
from dgl_broker.selection.criteria import Criterion
from dgl_broker.selection.criteria import Test as Condition
from dgl_broker.selection.facts import ALL_FACTS, CHOICES, distance_modulus, kind_of, range_of
from dgl_broker.selection.filter_files import KEYS

BUNDLE, OTHER_BUNDLE = "a" * 64, "b" * 64


def a_filter(require="{}", **keys):
    text = "".join(f"{key}: {value}\n" for key, value in {"name": "f", "version": 1, "threshold": 5, **keys}.items())
    return parse_filter(f"{text}require: {require}\n", "f.yaml")


def met(require, facts):
    """What the one criterion of a `require` mapping says of some facts."""
    return a_filter(require).precut(facts).met[0][1]


# --- files -----------------------------------------------------------------------------------------------------------------


def test_a_number_in_scientific_notation_is_a_number_and_no_is_a_text():
    read = a_filter("{reliability: {min: 1e-4}}", description="no")
    assert read.require[0].alternatives[0][0].low == 1e-4
    assert read.description == "no"


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("treshold: 5", "f.yaml: unknown key 'treshold'; did you mean 'threshold'?"),
        ("zzz: 5", "unknown key 'zzz'; known are name, version"),
        ("completeness_floor: 1.7", "f.yaml: completeness_floor 1.7, expected 0 to 1"),
        ("completeness_floor: high", "completeness_floor 'high', expected 0 to 1"),
        ("max_candidates_per_night: -1", "max_candidates_per_night -1, expected 0 to 1e+09"),
        ("max_candidates_per_night: .nan", "max_candidates_per_night nan, expected 0 to 1e+09"),
        ("max_candidates_per_night: true", "max_candidates_per_night True, expected 0 to 1e+09"),
        ("version: 0", "version 0, expected a whole number from 1"),
        ("version: 1.5", "version 1.5, expected a whole number from 1"),
        ("version: true", "version True, expected a whole number from 1"),
        ("name: 'Lensed SN'", "name 'Lensed SN', expected lower-case letters, digits and _"),
        ("survey: des", "survey 'des', expected lsst, ztf or null"),
        ("survey: [lsst]", "survey ['lsst'], expected lsst, ztf or null"),
        ("bundle_sha256: abc", "bundle_sha256 'abc', expected 64 hexadecimal digits"),
        ("score: auc", "score 'auc', expected log_odds or posterior"),
        ("score: [log_odds]", "score ['log_odds'], expected log_odds or posterior"),
        ("threshold: high", "threshold 'high', expected -700 to 700 nat"),
        ("threshold: null", "threshold None, expected -700 to 700 nat"),
        ("description: 3", "description 3, expected text"),
        ("require: [reliability]", "require ['reliability'], expected a mapping of criteria"),
        ("require: {reliabilty: {min: 0.1}}", "require.reliabilty: unknown fact 'reliabilty'; did you mean 'reliability'?"),
        ("require: {reliability: {minimum: 0.1}}", "unknown key 'require.reliability.minimum'; did you mean 'min'?"),
        ("require: {reliability: 0.1}", "require.reliability 0.1, expected a mapping such as {min: 0.1, unknown: pass}"),
        ("require: {reliability: {min: 65}}", "require.reliability.min 65, expected 0 to 1"),
        ("require: {star_separation_arcsec: {min: -1}}", "star_separation_arcsec.min -1, expected 0 to 648000 arcsec"),
        ("require: {magnitude: {min: 22, max: 20}}", "require.magnitude.min 22 above max 20, expected min <= max"),
        ("require: {magnitude: {min: .inf}}", "require.magnitude.min inf, expected -40 to 50 mag"),
        ("require: {magnitude: {min: '20'}}", "require.magnitude.min '20', expected -40 to 50 mag"),
        ("require: {reliability: {}}", "require.reliability with no condition, expected min and/or max, or in, or equals"),
        ("require: {reliability: {min: 0.1, in: [1]}}", "with min, in, expected min and/or max, or in, or equals"),
        ("require: {reliability: {min: 0.1, unknown: maybe}}", "require.reliability.unknown 'maybe', expected pass or fail"),
        ("require: {is_positive: {min: 1}}", "require.is_positive with min, expected equals: true or equals: false"),
        ("require: {is_positive: {equals: t}}", "require.is_positive.equals 't', expected true or false"),
        ("require: {band: {in: [g, V]}}", "require.band.in 'V', expected 'u' or 'g'"),
        ("require: {band: {in: []}}", "require.band.in [], expected a list of values"),
        ("require: {band: {min: 1}}", "require.band with min, expected in or equals"),
        ("require: {programid: {equals: true}}", "require.programid.equals True, expected 1 or 2 or 3"),
        ("require: {a: {any: []}}", "require.a.any [], expected a list of mappings"),
        ("require: {a: {any: [{}]}}", "require.a.any[0] {}, expected a mapping from facts to conditions"),
        ("require: {a: {any: [{magnitude: 3}]}}", "require.a.any[0].magnitude 3, expected a mapping"),
        ("require: {a: {any: [{magnitude: {mx: 3}}]}}", "unknown key 'require.a.any[0].magnitude.mx'; did you mean 'max'?"),
        ("require: {a: {any: [{snr: {min: 3}}], min: 3}}", "require.a with min beside any, expected one or the other"),
        ("require: {A b: {fact: snr, min: 3}}", "require.A b as a name, expected lower-case letters"),
        ("operating_point: {metric: auc}", "operating_point.metric 'auc', expected completeness or fpr"),
        ("operating_point: 0.9", "operating_point 0.9, expected a mapping"),
        ("operating_point: {metric: fpr, vaule: 1}", "unknown key 'operating_point.vaule'; did you mean 'value'?"),
        ("operating_point: {metric: fpr, value: 2}", "operating_point.value 2, expected 0 to 1"),
        ("operating_point: {metric: purity, value: .5, lo: .6}", "lo, value, hi [0.6, 0.5], expected lo <= value <= hi"),
        ("operating_point: {metric: fpr, date: 22 Nov 2026}", "operating_point.date '22 Nov 2026', expected a date"),
        ("operating_point: {metric: fpr, n_neg: 1.5}", "operating_point.n_neg 1.5, expected the number of negatives"),
        # the rule of three: 0 of 1000 negatives say no more than FPR < 3e-3
        ("operating_point: {metric: fpr, value: 1e-4, n_neg: 1000}", "expected at least 3/n_neg = 0.003"),
    ],
)
def test_what_is_wrong_with_a_file_is_named_with_its_key_and_what_was_expected(line, expected):
    key = line.split(":")[0]
    lines = {"name": "name: f", "version": "version: 1", "threshold": "threshold: 5"}
    lines[key] = line
    with pytest.raises(ConfigError) as caught:
        parse_filter("\n".join(lines.values()), "f.yaml")
    assert expected in str(caught.value)


def test_all_problems_of_a_file_are_said_at_once():
    with pytest.raises(ConfigError) as caught:
        parse_filter("name: F\nversion: 0\nthreshold: 5\nrequire: {reliability: {min: 65}, snr: {min: -1}}", "f.yaml")
    assert len(str(caught.value).splitlines()) == 4


@pytest.mark.parametrize(
    "text", ["", "- a", "a: b: c", "name: f\nname: g", "\x00", b"\xff\xfe", "x: !!python/object:os.system 1"]
)
def test_what_is_no_filter_is_a_configuration_error(text):
    with pytest.raises(ConfigError):
        parse_filter(text, "f.yaml")


def test_a_file_that_is_not_there_says_which_filters_ship(tmp_path):
    with pytest.raises(InputUnavailable, match="lensed_sn_lsst.yaml"):
        load_filter("lensed_sn_des")
    with pytest.raises(InputUnavailable, match="no such file"):
        load_filter(tmp_path / "f.yaml")


@pytest.mark.parametrize("value", [2**63, -(2**63), 10**400])
def test_an_integer_that_no_file_may_hold_is_refused_before_it_is_written(value):
    with pytest.raises(ConfigError, match="an integer of [0-9]+ bits, expected a number of at most 64 bits"):
        parse_criteria({"snr": {"min": value}})
    assert parse_criteria({"snr": {"min": 2**63 - 1}})


NUMBERS = st.floats(allow_nan=False, allow_infinity=False, width=64)
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
NAMES = st.from_regex(r"[a-z][a-z0-9_]{0,20}", fullmatch=True) | st.sampled_from(["no", "on", "null", "true", "e1", "y"])
NUMERIC_FACTS = sorted(f for f in ALL_FACTS if kind_of(f) == "number" and f not in CHOICES)


@st.composite
def a_test(draw):
    kind = draw(st.sampled_from(["range", "number", "bool", "choice"]))
    if kind == "bool":
        return Condition(draw(st.sampled_from(["is_positive", "is_dipole"])), choices=(draw(st.booleans()),))
    if kind == "choice":
        fact = draw(st.sampled_from(sorted(CHOICES)))
        return Condition(fact, choices=tuple(draw(st.lists(st.sampled_from(CHOICES[fact]), min_size=1, max_size=3))))
    fact = draw(st.sampled_from(NUMERIC_FACTS))
    low, high = (max(-1e300, min(1e300, limit)) for limit in range_of(fact))
    least = max(math.ceil(low), -(2**63) + 1)
    number = st.floats(low, high) | st.integers(least, max(least, math.floor(min(high, least + 5))))
    if kind == "number":
        return Condition(fact, choices=tuple(draw(st.lists(number, min_size=1, max_size=3))))
    limits = sorted([draw(number), draw(number)])
    return Condition(fact, *draw(st.sampled_from([(limits[0], None), (None, limits[1]), tuple(limits)])))


@st.composite
def a_criterion(draw, name):
    tests = st.lists(a_test(), min_size=1, max_size=3, unique_by=lambda test: test.fact).map(tuple)
    alternatives = draw(st.lists(tests, min_size=1, max_size=3).map(tuple))
    return Criterion(name, alternatives, draw(st.sampled_from(["pass", "fail"])), draw(TEXTS))


@st.composite
def filters(draw):
    names = draw(st.lists(NAMES.filter(lambda n: n != "survey"), max_size=4, unique=True))
    value = draw(st.none() | st.floats(0.1, 0.9))
    point = OperatingPoint(
        draw(st.sampled_from(["completeness", "purity", "fpr"])),
        value,
        None if value is None else draw(st.none() | st.floats(0, value)),
        None if value is None else draw(st.none() | st.floats(value, 1)),
        draw(st.none() | st.integers(1000, 2**40)),
        draw(TEXTS),
        draw(st.none() | st.dates().map(lambda d: d.isoformat())),
    )
    return Filter(
        name=draw(NAMES),
        version=draw(st.integers(1, 2**31 - 1)),
        threshold=draw(st.floats(-700, 700)),
        description=draw(TEXTS),
        survey=draw(st.sampled_from([None, "ztf", "lsst"])),
        bundle_sha256=draw(st.none() | st.from_regex(r"[0-9a-f]{64}", fullmatch=True)),
        require=tuple(draw(a_criterion(name)) for name in names),
        operating_point=draw(st.none() | st.just(point)),
        completeness_floor=draw(st.none() | st.floats(0, 1)),
        max_candidates_per_night=draw(st.none() | st.floats(0, 1e9)),
    )


@settings(deadline=None, max_examples=120, derandomize=True)
@given(filters())
def test_a_filter_written_and_read_again_is_the_same_filter(written):
    read = parse_filter(dump_filter(written), "f.yaml")
    assert read == written
    assert content_sha256(read) == content_sha256(written)
    assert pickle.loads(pickle.dumps(written)) == written


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=6,
)
WORDS = st.sampled_from(["any", "fact", "min", "max", "in", "equals", "unknown", "why", "snr", "band", "is_positive", "a"])
CRITERIA_LIKE = st.recursive(ANYTHING, lambda inner: st.dictionaries(WORDS, inner | st.lists(inner, max_size=2)), max_leaves=8)


@settings(deadline=None, max_examples=150, derandomize=True)
@given(st.dictionaries(st.sampled_from(KEYS), CRITERIA_LIKE), CRITERIA_LIKE)
def test_whatever_a_file_holds_it_is_a_filter_or_a_configuration_error(values, require):
    import yaml

    text = yaml.safe_dump({"name": "f", "version": 1, "threshold": 5, "require": require} | values)
    try:
        read = parse_filter(text, "f.yaml")
    except ConfigError as error:
        assert "f.yaml" in str(error)
    else:
        assert parse_filter(dump_filter(read)) == read


@pytest.mark.parametrize("change", [{"threshold": 5.5}, {"require": ()}, {"version": 2}, {"bundle_sha256": BUNDLE}])
def test_the_hash_of_a_filter_tells_its_content(change):
    one = a_filter("{snr: {min: 5}}")
    assert content_sha256(one) == content_sha256(a_filter("{snr: {min: 5}}"))
    assert content_sha256(replace(one, **change)) != content_sha256(one)


# --- criteria --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("require", "facts", "expected"),
    [
        ("{magnitude: {min: 18, max: 21}}", {"magnitude": 18}, True),
        ("{magnitude: {min: 18, max: 21}}", {"magnitude": 21.0}, True),
        ("{magnitude: {min: 18, max: 21}}", {"magnitude": 21.01}, False),
        ("{magnitude: {min: 18, max: 21}}", {"magnitude": 17.9}, False),
        ("{magnitude: {min: 18}}", {}, None),
        ("{magnitude: {min: 18}}", {"magnitude": None}, None),
        ("{magnitude: {min: 18}}", {"magnitude": math.nan}, None),
        ("{magnitude: {min: 18}}", {"magnitude": math.inf}, True),
        ("{magnitude: {min: 18}}", {"magnitude": "bright"}, None),
        ("{band: {in: [g, r]}}", {"band": "r"}, True),
        ("{band: {in: [g, r]}}", {"band": "i"}, False),
        ("{is_positive: {equals: true}}", {"is_positive": False}, False),
        ("{is_positive: {equals: true}}", {}, None),
        ("{programid: {equals: 1}}", {"programid": 1.0}, True),
        ("{bright: {fact: magnitude, max: 19}}", {"magnitude": 18.5}, True),
        # an OR over an unknown is met if the other is, and unknown if the other is not (Kleene)
        ("{a: {any: [{snr: {min: 5}}, {magnitude: {max: 19}}]}}", {"snr": 6}, True),
        ("{a: {any: [{snr: {min: 5}}, {magnitude: {max: 19}}]}}", {"snr": 4}, None),
        ("{a: {any: [{snr: {min: 5}}, {magnitude: {max: 19}}]}}", {"snr": 4, "magnitude": 20}, False),
        # an AND fails if one does, whatever the other
        ("{a: {any: [{snr: {min: 5}, magnitude: {max: 19}}]}}", {"snr": 4}, False),
        ("{a: {any: [{snr: {min: 5}, magnitude: {max: 19}}]}}", {"snr": 6}, None),
        ("{a: {any: [{snr: {min: 5}, magnitude: {max: 19}}]}}", {"snr": 6, "magnitude": 18}, True),
    ],
)
def test_a_criterion_is_met_failed_or_unknown(require, facts, expected):
    assert met(require, facts) is expected


def test_an_unknown_value_passes_or_fails_as_the_criterion_says():
    lenient, strict = a_filter("{snr: {min: 5}}"), a_filter("{snr: {min: 5, unknown: fail}}")
    assert lenient.precut({}).passed is True
    assert strict.precut({}).passed is False
    assert strict.precut({}).met == (("snr", None),)
    assert strict.precut({}).first_failed == "snr"


def test_a_filter_for_one_survey_refuses_alerts_of_the_other():
    one = a_filter("{}", survey="ztf")
    assert one.precut({"survey": "ztf"}).passed is True
    assert one.precut({"survey": "lsst"}).first_failed == "survey"


def test_criteria_on_the_packet_alone_serve_as_a_predicate():
    accepts = predicate({"snr": {"min": 10}, "reliability": {"min": 0.5, "unknown": "fail"}}, "companions.remember")
    assert accepts({"snr": 12, "reliability": 0.6})
    assert accepts({"reliability": 0.6})
    assert not accepts({"snr": 12})
    assert predicate({}, "companions.remember")({})
    with pytest.raises(ConfigError, match="companions.remember: require.snr.min"):
        parse_criteria({"snr": {"min": "x"}}, "companions.remember")


@pytest.mark.parametrize("z", [0.001, 0.05, 0.354, 1.0, 2.01, 5.0])
def test_distance_modulus_agrees_with_astropy(z):
    from astropy.cosmology import FlatLambdaCDM

    expected = FlatLambdaCDM(H0=70, Om0=0.3, Tcmb0=0).distmod(z).value
    assert distance_modulus(z) == pytest.approx(expected, abs=1e-8)  # both are quadratures, good to 1e-9


def test_over_luminosity_is_judged_at_the_distance_of_the_host():
    # SN Zwicky: peak about 17.3 mag; its lens at z 0.226 (distance modulus 40.254 in flat LCDM 70, 0.3: astropy) gives -23.0,
    # far brighter than any SN Ia at -19.3.
    require = "{too_bright_for_its_host: {fact: absolute_magnitude, max: -20, unknown: pass}}"
    lensed = {"magnitude": 18.0, "brightest_magnitude": 17.3, "host_redshift": 0.226, "is_positive": True}
    assert met(require, lensed) is True
    found = a_filter(require.replace("-20", "-30")).judge(lensed, SimpleNamespace(log_odds=9.0)).failed[0][1]
    assert found == pytest.approx(17.3 - 40.254, abs=0.001)
    assert met(require, {**lensed, "brightest_magnitude": 20.95}) is False  # -19.3: a SN Ia in that galaxy
    assert met(require, {**lensed, "host_redshift": None}) is None
    assert met(require, {**lensed, "host_redshift": -1.0}) is None
    # a negative difference is no light of a supernova
    assert met(require, {"magnitude": 17.3, "host_redshift": 0.226, "is_positive": False}) is None


def test_a_derived_fact_is_not_worked_out_unless_a_criterion_asks():
    class Facts(dict):
        asked = ()

        def get(self, name, default=None):
            self.asked += (name,)
            return super().get(name, default)

    facts = Facts(snr=6)
    a_filter("{snr: {min: 5}}").precut(facts)
    assert facts.asked == ("snr",)


# --- pre-cuts in two stages ------------------------------------------------------------------------------------------------

TWO = "{brightest_magnitude: {max: 21}, snr: {min: 5}, reliability: {min: 0.1}}"


def test_criteria_whose_facts_come_later_stay_undecided():
    early = a_filter(TWO).precut({"snr": 9, "reliability": 0.9}, known=frozenset({"snr", "reliability"}))
    assert early.passed is None
    assert early.undecided == ("brightest_magnitude",)
    assert early.met == (("snr", True), ("reliability", True))
    refused = a_filter(TWO).precut({"snr": 3, "reliability": 0.0}, known=frozenset({"snr", "reliability"}))
    assert refused.passed is False
    assert refused.first_failed == "snr"


def test_a_fact_that_is_known_to_be_unknown_is_decided_early():
    assert a_filter("{snr: {min: 5}}").precut({"snr": None}, known=frozenset({"snr"})).passed is True


def test_what_a_filter_needs_are_the_packets_facts_not_those_derived_from_them():
    needs = a_filter("{absolute_magnitude: {max: -20}, known_lens_separation_arcsec: {max: 5}, snr: {min: 5}}").needs
    assert needs == {"snr", "host_redshift", "brightest_magnitude", "magnitude", "is_positive", "ra", "dec"}


@pytest.fixture(autouse=True)
def lens_table(tmp_path, monkeypatch):
    """A table of known lenses for the filters here that ask for one."""
    from dgl_broker.selection import known_lenses

    table = tmp_path / "catalog.csv"
    table.write_text("name,RA [deg],DEC [deg],zlens,type,grading,ref\nA,10.0,20.0,0.5,galaxy,confident,x\n")
    monkeypatch.setenv(known_lenses.TABLE_VARIABLE, str(table))
    known_lenses.known_lenses.cache_clear()
    yield
    known_lenses.known_lenses.cache_clear()


def test_a_match_with_a_known_lens_is_a_criterion():
    one = a_filter("{known_lens_separation_arcsec: {max: 5}}")
    assert one.precut({"ra": 10.0, "dec": 20.001}).passed is True  # 3.6 arcsec
    assert one.precut({"ra": 10.0, "dec": 20.002}).passed is False  # 7.2 arcsec
    assert one.precut({}).met == (("known_lens_separation_arcsec", None),)


def test_a_missing_table_of_lenses_stops_the_start_and_not_the_first_alert(monkeypatch, tmp_path):
    from dgl_broker.selection import known_lenses

    monkeypatch.setenv(known_lenses.TABLE_VARIABLE, str(tmp_path / "none.csv"))
    known_lenses.known_lenses.cache_clear()
    with pytest.raises(InputUnavailable, match="none.csv"):
        a_filter("{known_lens_separation_arcsec: {max: 5}}")


def test_the_reason_is_the_first_failing_criterion_of_the_first_filter():
    one = a_filter(TWO, name="one")
    two = a_filter("{reliability: {min: 0.9}}", name="two")
    refused = FilterSet([one, two]).precut({"snr": 3, "reliability": 0.0, "brightest_magnitude": 20}, final=True)
    assert refused.refused
    assert refused.reason == "precut.snr"
    assert refused.text == "snr is 3, cut by one version 1"
    assert FilterSet([two, one]).precut({"snr": 3, "reliability": 0.0}, final=True).reason == "precut.reliability"
    assert refused.cuts == {
        "one.brightest_magnitude": True,
        "one.snr": False,
        "one.reliability": False,
        "two.reliability": False,
    }


@pytest.mark.parametrize("other", [None, {"snr": {"min": 100}}, {"brightest_magnitude": {"max": 10}}, {"snr": {"min": 1}}])
@pytest.mark.parametrize("bright", [20, 25])
@pytest.mark.parametrize("snr", [3, 9])
@pytest.mark.parametrize("reliability", [0.0, 0.9])
def test_the_reason_is_the_same_whether_an_alert_is_refused_early_or_late(other, bright, snr, reliability):
    early_facts = {"snr": snr, "reliability": reliability}
    facts = {**early_facts, "brightest_magnitude": bright}
    members = [a_filter(TWO, name="one")]
    if other is not None:
        members.append(a_filter(str(other).replace("'", ""), name="two"))
    chosen = FilterSet(members, first_stage={"snr", "reliability"})
    early, late = chosen.precut(early_facts), chosen.precut(facts, final=True)
    unset = FilterSet(members)
    assert unset.precut(early_facts).reason == early.reason
    assert unset.precut(facts, final=True, known=frozenset(early_facts)).reason == late.reason
    if early.refused:
        assert late.refused
        assert early.reason == late.reason
    if not late.refused:
        assert any(f.precut(facts).passed for f in members)
    assert late.decided


def test_several_filters_mean_or():
    strict, lenient = a_filter("{snr: {min: 50}}", name="strict"), a_filter("{snr: {min: 5}}", name="lenient")
    both = FilterSet([strict, lenient])
    assert not both.precut({"snr": 9}, final=True).refused
    assert both.precut({"snr": 3}, final=True).refused
    verdicts = both.judge({"snr": 9}, SimpleNamespace(log_odds=6.0))
    assert [v.passed for v in verdicts] == [False, True]


def test_an_alert_stays_while_one_filter_is_undecided():
    both = FilterSet([a_filter("{snr: {min: 50}}", name="a"), a_filter("{brightest_magnitude: {max: 21}}", name="b")])
    early = both.precut({"snr": 9})
    assert not early.refused
    assert not early.decided
    assert both.needs == {"snr", "brightest_magnitude"}


def test_no_filter_accepts_everything_and_finds_no_candidate():
    none = FilterSet()
    assert len(none) == 0
    assert not none.precut({}, final=True).refused
    assert none.judge({}, SimpleNamespace(log_odds=99.0)) == ()


# --- verdicts --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("score", "passed"), [(5.0, True), (4.999999, False), (math.nan, False), (None, False), (math.inf, True)]
)
def test_a_score_passes_at_or_above_the_threshold(score, passed):
    verdict = a_filter("{}").judge({}, SimpleNamespace(log_odds=score))
    assert verdict.passed is passed
    assert [name for name, _ in verdict.failed] == ([] if passed else ["log_odds"])


def test_a_verdict_names_all_that_failed_with_values_in_order():
    one = a_filter("{snr: {min: 5}, band: {in: [g]}, a: {any: [{magnitude: {max: 19}}, {reliability: {min: 0.9}}]}}", version=7)
    verdict = one.judge({"snr": 3, "band": "g", "magnitude": 20, "reliability": 0.5}, SimpleNamespace(log_odds=1.0))
    assert verdict.failed == (("snr", 3), ("a", {"magnitude": 20, "reliability": 0.5}), ("log_odds", 1.0))
    assert (verdict.filter, verdict.version, verdict.passed) == ("f", 7, False)


def test_a_filter_may_threshold_another_score():
    verdict = a_filter("{}", score="p_lsn", threshold=0.5).judge({}, SimpleNamespace(p_lsn=0.6))
    assert verdict.passed


# --- sets ------------------------------------------------------------------------------------------------------------------


def test_a_filter_tuned_for_another_bundle_does_not_start():
    tuned = FilterSet([a_filter("{}", bundle_sha256=BUNDLE)])
    tuned.check_bundle(BUNDLE)
    with pytest.raises(GuardRefused, match=f"{BUNDLE}.*{OTHER_BUNDLE}"):
        tuned.check_bundle(OTHER_BUNDLE)
    assert tuned.untuned == ()


def test_an_untuned_filter_starts_and_is_named():
    untuned = FilterSet([a_filter("{}")])
    untuned.check_bundle(BUNDLE)
    assert untuned.untuned == ("f",)


def test_a_filter_for_another_survey_does_not_start():
    with pytest.raises(ConfigError, match="survey 'ztf', the alerts are of 'lsst'"):
        FilterSet([a_filter("{}", survey="ztf")]).check_survey("lsst")


def test_two_filters_of_one_name_are_an_error():
    with pytest.raises(ConfigError, match="expected each name once"):
        FilterSet([a_filter("{}"), a_filter("{snr: {min: 5}}")])


# --- shipped filters -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("survey", ["lsst", "ztf"])
def test_shipped_filters_are_sound_and_give_a_reason_for_each_number(survey):
    shipped = load_filter(f"lensed_sn_{survey}")
    assert shipped.name == f"lensed_sn_{survey}"
    assert shipped.survey == survey
    assert shipped.score == "log_odds"
    assert all(len(criterion.why) > 20 and criterion.unknown == "pass" for criterion in shipped.require)
    assert shipped.precut({"survey": survey}).passed is True  # nothing known, nothing refused


def test_a_lensed_supernova_of_ztf_passes_the_shipped_precuts():
    # SN Zwicky = ZTF22aaylnhq at 17:35:44.33 +04:49:56.9 (TNS AstroNote 2022-180); Galactic latitude by astropy; a galaxy and
    # no star under it.
    from astropy.coordinates import SkyCoord

    b = float(SkyCoord("17h35m44.33s +04d49m56.9s").galactic.b.deg)
    facts = {
        "survey": "ztf",
        "programid": 1,
        "is_positive": True,
        "n_detections": 2,
        "reliability": 0.99,
        "galactic_latitude_deg": b,
        "star_score": 0.02,
        "star_separation_arcsec": 0.9,
    }
    assert load_filter("lensed_sn_ztf").precut(facts).passed is True
    for change, criterion in (
        ({"programid": 2}, "programid"),
        ({"is_positive": False}, "is_positive"),
        ({"reliability": 0.05}, "reliability"),
        ({"star_score": 0.99}, "not_on_a_star"),
        ({"galactic_latitude_deg": -3.0}, "off_the_plane"),
    ):
        assert load_filter("lensed_sn_ztf").precut({**facts, **change}).first_failed == criterion


def test_selection_starts_without_torch():
    code = "import sys, dgl_broker.selection; print([m for m in ('torch', 'sklearn', 'astropy', 'redis') if m in sys.modules])"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out.strip() == "[]"


def test_what_one_filter_says_otherwise_than_another_is_told_in_words():
    from dataclasses import replace

    from dgl_broker.selection.words import differences

    old = parse_filter(
        "{name: f, version: 1, require: {snr: {min: 5}, band: {in: [g, r]}}, threshold: 3.17, completeness_floor: 0.1}"
    )
    new = replace(
        old, version=2, threshold=3.1700001, require=parse_criteria({"snr": {"min": 7}, "is_positive": {"equals": True}})
    )
    assert differences(old, replace(old, version=9, description="new words")) == []
    assert differences(None, old) == ["new, log_odds at least 3.17"]
    assert differences(old, replace(new, bundle_sha256="ab" * 32, completeness_floor=None)) == [
        "threshold 3.17 → 3.1700001",
        "snr: at least 5; unknown passes → at least 7; unknown passes",
        "band taken out (g or r; unknown passes)",
        "is_positive put in: yes; unknown passes",
        "bundle none → abababab",
        "completeness floor 0.1 → none",
    ]

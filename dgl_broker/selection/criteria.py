"""Declarative criteria over an alert's facts: read from a filter's `require`, compiled once, judged in microseconds.

    require:
      reliability: {min: 0.1, why: "..."}                 # a fact, by name
      bright_enough: {fact: magnitude, max: 21.5}         # a fact under another name
      not_on_a_star:                                      # holds if any of these holds
        any:
          - star_separation_arcsec: {min: 1.5}
          - star_score: {max: 0.5}
        unknown: pass

A value that is absent, None or NaN is unknown: then a criterion is neither met nor failed, and `unknown: pass` (the default) or
`fail` says what follows. Limits are inclusive.
"""

import math
import re
from dataclasses import dataclass
from difflib import get_close_matches

from dgl_broker.selection.facts import ALL_FACTS, CHOICES, DERIVED, kind_of, prepare, range_of
from dgl_broker.selection.problems import Problems, check_number

NAME = re.compile(r"[a-z][a-z0-9_]{0,62}")
CONDITIONS = ("min", "max", "in", "equals")
POLICIES = ("pass", "fail")
LONGEST_TEXT = 20_000


@dataclass(frozen=True)
class Test:
    """One condition on one fact: within [low, high], or one of `choices`."""

    fact: str
    low: float | None = None
    high: float | None = None
    choices: tuple | None = None


@dataclass(frozen=True)
class Criterion:
    """A named criterion: met if in any of the alternatives every test is.

    `why` is the reason for its numbers; it stays with the filter when a new version of it is written.
    """

    name: str
    alternatives: tuple[tuple[Test, ...], ...]
    unknown: str = "pass"
    why: str = ""

    @property
    def facts(self):
        """Names of the facts it speaks of, in order."""
        return tuple(dict.fromkeys(test.fact for tests in self.alternatives for test in tests))

    @property
    def needs(self):
        """Names of the packet's facts it needs: those it speaks of, or those that these are derived from."""
        return frozenset(n for fact in self.facts for n in (DERIVED[fact].needs if fact in DERIVED else (fact,)))

    def compiled(self):
        """Function (facts, cache) -> True, False or None (unknown); `cache` holds derived facts of this alert."""
        options = [_all_of([_compiled_test(test) for test in tests]) for tests in self.alternatives]
        return options[0] if len(options) == 1 else _any_of(options)

    def value(self, facts, cache):
        """What was found, for a verdict: the fact's value, or {fact: value} where there are several."""
        values = {fact: look_up(fact)(facts, cache) for fact in self.facts}
        return values if len(values) > 1 else next(iter(values.values()))


def look_up(fact):
    """Function (facts, cache) -> value of a fact, None where unknown."""
    if fact not in DERIVED:
        return lambda facts, cache: facts.get(fact)
    derive = DERIVED[fact].value

    def derived(facts, cache):
        if fact not in cache:
            cache[fact] = derive(facts)
        return cache[fact]

    return derived


def _compiled_test(test):
    value_of = look_up(test.fact)
    if test.choices is not None:
        choices = frozenset(test.choices)

        def one_of(facts, cache):
            value = value_of(facts, cache)
            return None if value is None or value != value else value in choices

        return one_of
    low = -math.inf if test.low is None else test.low
    high = math.inf if test.high is None else test.high

    def within(facts, cache):
        value = value_of(facts, cache)
        if value is None or value != value:
            return None
        try:
            return bool(low <= value <= high)
        except TypeError:  # a text where a number belongs says nothing
            return None

    return within


def _all_of(functions):
    if len(functions) == 1:
        return functions[0]

    def all_of(facts, cache):
        met = [function(facts, cache) for function in functions]
        return False if False in met else None if None in met else True

    return all_of


def _any_of(functions):
    def any_of(facts, cache):
        met = [function(facts, cache) for function in functions]
        return True if True in met else None if None in met else False

    return any_of


def read_criteria(mapping, problems, key="require"):
    """The criteria of a `require` mapping, in its order; what is wrong goes to `problems`."""
    if mapping is None:
        return ()
    if not isinstance(mapping, dict):
        problems.add(key, repr(mapping), "a mapping of criteria")
        return ()
    return tuple(
        criterion
        for name, body in mapping.items()
        if (criterion := _read_criterion(name, body, problems, f"{key}.{name}")) is not None
    )


def parse_criteria(mapping, source="require"):
    """The criteria of a mapping of their own, such as `companions.remember`.

    Raises
    ------
    ConfigError
        With everything that is wrong.
    """
    problems = Problems(source)
    criteria = read_criteria(mapping, problems, "require")
    problems.raise_any()
    return criteria


def _read_criterion(name, body, problems, key):
    before = len(problems)
    if not (isinstance(name, str) and NAME.fullmatch(name)):
        problems.add(key, "as a name", "lower-case letters, digits and _, at most 63")
        return None
    if not isinstance(body, dict):
        problems.add(key, repr(body), "a mapping such as {min: 0.1, unknown: pass}")
        return None
    for k in body:
        if k not in ("any", "fact", "unknown", "why", *CONDITIONS):
            problems.unknown_key(key, k, ("any", "fact", "unknown", "why", *CONDITIONS))
    policy = body.get("unknown", "pass")
    if policy not in POLICIES:
        problems.add(f"{key}.unknown", repr(policy), "pass or fail")
    why = body.get("why", "")
    if not isinstance(why, str) or len(why) > LONGEST_TEXT:
        problems.add(f"{key}.why", repr(why)[:60], f"text of at most {LONGEST_TEXT} characters")
    if "any" in body:
        alternatives = _read_alternatives(body, problems, key)
    else:
        test = _read_test(body.get("fact", name), body, problems, key)
        alternatives = () if test is None else ((test,),)
    return Criterion(name, alternatives, policy, why) if len(problems) == before else None


def _read_alternatives(body, problems, key):
    beside = [k for k in ("fact", *CONDITIONS) if k in body]
    if beside:
        problems.add(key, f"with {', '.join(beside)} beside any", "one or the other")
    options = body["any"]
    if not isinstance(options, list) or not options:
        problems.add(f"{key}.any", repr(options), "a list of mappings from facts to conditions")
        return ()
    read = []
    for i, option in enumerate(options):
        where = f"{key}.any[{i}]"
        if not isinstance(option, dict) or not option:
            problems.add(where, repr(option), "a mapping from facts to conditions")
            continue
        tests = []
        for fact, conditions in option.items():
            if not isinstance(conditions, dict):
                problems.add(f"{where}.{fact}", repr(conditions), "a mapping such as {min: 0.1}")
                continue
            for k in conditions:
                if k not in CONDITIONS:
                    problems.unknown_key(f"{where}.{fact}", k, CONDITIONS)
            tests.append(_read_test(fact, conditions, problems, f"{where}.{fact}"))
        read.append(tuple(test for test in tests if test is not None))
    return tuple(read)


def _read_test(fact, conditions, problems, key):
    if not isinstance(fact, str) or fact not in ALL_FACTS:
        near = get_close_matches(str(fact), ALL_FACTS, 1, 0.6)
        hint = f"did you mean {near[0]!r}?" if near else "docs/filters.md lists them"
        problems.append(f"{problems.source}: {key}: unknown fact {fact!r}; {hint}")
        return None
    given = [c for c in CONDITIONS if c in conditions]
    if not given or ("in" in given or "equals" in given) and len(given) > 1:
        problems.add(key, f"with {', '.join(given) or 'no condition'}", "min and/or max, or in, or equals")
        return None
    before = len(problems)
    if "in" in given or "equals" in given:
        choices = conditions["in"] if "in" in given else [conditions["equals"]]
        if not isinstance(choices, list) or not choices:
            problems.add(f"{key}.in", repr(choices), "a list of values")
            return None
        for choice in choices:
            _check_choice(fact, choice, problems, f"{key}.{given[0]}")
        test = Test(fact, choices=tuple(choices))
    else:
        if kind_of(fact) != "number":
            expected = "equals: true or equals: false" if kind_of(fact) == "bool" else "in or equals"
            problems.add(key, f"with {', '.join(given)}", expected)
            return None
        low, high = conditions.get("min"), conditions.get("max")
        for condition in given:
            check_number(conditions[condition], *range_of(fact), problems, f"{key}.{condition}", ALL_FACTS[fact][0])
        if len(problems) == before and None not in (low, high) and low > high:
            problems.add(f"{key}.min", f"{low} above max {high}", "min <= max")
        test = Test(fact, low, high)
    return test if len(problems) == before else None


def _check_choice(fact, choice, problems, key):
    kind, allowed = kind_of(fact), CHOICES.get(fact)
    if allowed is not None:
        if isinstance(choice, bool) or choice not in allowed:
            problems.add(key, repr(choice), " or ".join(map(repr, allowed)))
    elif kind == "bool":
        if not isinstance(choice, bool):
            problems.add(key, repr(choice), "true or false")
    elif kind == "text":
        if not isinstance(choice, str):
            problems.add(key, repr(choice), "text")
    else:
        check_number(choice, *range_of(fact), problems, key, ALL_FACTS[fact][0])


def write_criteria(criteria):
    """The mapping that `read_criteria` reads back to equal criteria."""
    out = {}
    for criterion in criteria:
        first = criterion.alternatives[0]
        if len(criterion.alternatives) == 1 and len(first) == 1:
            body = {} if first[0].fact == criterion.name else {"fact": first[0].fact}
            body |= _write_test(first[0])
        else:
            body = {"any": [{test.fact: _write_test(test) for test in tests} for tests in criterion.alternatives]}
        body["unknown"] = criterion.unknown
        if criterion.why:
            body["why"] = criterion.why
        out[criterion.name] = body
    return out


def _write_test(test):
    if test.choices is not None:
        return {"equals": test.choices[0]} if len(test.choices) == 1 else {"in": list(test.choices)}
    limits = {"min": test.low, "max": test.high}
    return {condition: limit for condition, limit in limits.items() if limit is not None}


def predicate(mapping, source="require"):
    """Whether an alert's facts meet all criteria of a mapping, as a function of the facts; such as `companions.remember`.

    Raises
    ------
    ConfigError
        With everything that is wrong with the mapping.
    """
    criteria = parse_criteria(mapping, source)
    prepare({fact for criterion in criteria for fact in criterion.facts})
    judged = [(c.compiled(), c.unknown == "pass") for c in criteria]

    def accepts(facts):
        cache = {}
        for function, unknown_passes in judged:
            met = function(facts, cache)
            if not (unknown_passes if met is None else met):
                return False
        return True

    return accepts

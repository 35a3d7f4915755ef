"""ANTARES: tags and properties of a locus from the score that the filter gave its newest alert, asked of the service.

A locus has no cutouts, so nothing is scored here. Names of tags and properties carry version and completeness of the streaming
filter, as ANTARES's own do (`lantern_xgboost_t2.0.7_c0.95`): who selects by a tag must see when its meaning changes.
"""

import os
import re
import time

from antares_devkit.models import BaseFilter, FilterReturn

from dgl_broker.client import Client
from dgl_broker.data_files import filter_path
from dgl_broker.errors import ConfigError, InputUnavailable, ServiceFailed

URL, TOKEN = "DGL_SERVICE_URL", "DGL_SERVICE_TOKEN"  # environment variables
TIMEOUT_S = 2.0  # a locus waits for nothing longer
LEFT_ALONE_S = 60.0  # a service that did not answer
ALERT_ID = {"ztf": "ztf_candid", "lsst": "lsst_diaSource_diaSourceId"}


class NoScore(Exception):
    """The filter has no score for this alert, or not the one that the tag stands for."""


class _Asking(BaseFilter):
    """A filter of one survey; `FILTER` and `VERSION` are those of the streaming filter that its tag stands for."""

    SURVEY = FILTER = NAME = None
    VERSION = None

    def setup(self):
        """Called once a night."""
        self._client = Client(os.environ.get(URL, "http://127.0.0.1:8060"), os.environ.get(TOKEN), TIMEOUT_S, patience_s=0.0)
        self._not_before = 0.0

    def run(self, locus):
        """As the base has it, but for an alert without a score or a service out of reach: `Skipped`, with the reason."""
        done = super().run(locus)
        if done.status == "Errored" and done.exception_name in ("NoScore", "ServiceFailed"):
            said = {"exception_name": done.exception_name, "exception_message": done.exception_message}
            return FilterReturn(status="Skipped", **said)
        return done

    def _run(self, locus):
        alert_id = survey_id(locus.alert, self.SURVEY)
        answer = self._asked(alert_id)
        if answer.status != "scored":
            raise NoScore(f"{self.SURVEY} {alert_id}: {answer.status}{f' ({answer.reason})' if answer.reason else ''}")
        verdict = next((v for v in answer.record["verdicts"] if v["filter"] == self.FILTER), None)
        if verdict is None or verdict["version"] != self.VERSION:
            by = "not judged by it" if verdict is None else f"judged by version {verdict['version']}"
            raise NoScore(f"{self.SURVEY} {alert_id}: the tag stands for {self.FILTER} version {self.VERSION}; {by}")
        self._note(locus, alert_id, answer, verdict["passed"])

    def _note(self, locus, alert_id, answer, passed):
        before, name = locus.properties, self.NAME
        locus.set_property(f"{name}_log_odds", answer.log_odds)
        locus.set_property(f"{name}_bundle", answer.version)
        locus.set_property(f"{name}_max_log_odds", max(answer.log_odds, before.get(f"{name}_max_log_odds", answer.log_odds)))
        counted = before.get(f"{name}_last_alert") == str(alert_id)  # the same alert once more
        n = before.get(f"{name}_num_passed_alerts", 0) + (passed and not counted)
        locus.set_property(f"{name}_num_passed_alerts", int(n))
        locus.set_property(f"{name}_last_alert", str(alert_id))
        if passed:
            locus.tag(name)

    def _asked(self, alert_id):
        if time.monotonic() < self._not_before:
            raise ServiceFailed("the service did not answer a moment ago")
        try:
            return self._client.score_of(self.SURVEY, alert_id)
        except (ConfigError, InputUnavailable):
            raise  # a wrong token or survey: to be mended, so an error
        except (ServiceFailed, RuntimeError, OSError) as error:  # RuntimeError: sockets that the devkit has taken away
            self._not_before = time.monotonic() + LEFT_ALONE_S
            raise ServiceFailed(f"{type(error).__name__}: {error}") from error


def survey_id(alert, survey):
    """The survey's 64-bit id of an ANTARES alert, exact: a property, or the digits that its id ends with."""
    value = alert.properties.get(ALERT_ID[survey])
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    found = re.search(r"(\d+)\Z", alert.id)  # never of a float, which may have lost digits
    if found is None:
        raise NoScore(f"alert {alert.id!r}: no property {ALERT_ID[survey]}, and no number in its id")
    return int(found[1])


def operating_point(name):
    """(version, completeness floor or None) of a shipped filter; by its lines, since ANTARES has no YAML reader."""
    text = filter_path(name).read_text()
    version = re.search(r"^version: *(\d+)", text, re.M)
    floor = re.search(r"^completeness_floor: *([0-9.]+)", text, re.M)
    if version is None:
        raise ConfigError(f"filter {name}: no version")
    return int(version[1]), None if floor is None else float(floor[1])


def make_filter(class_name, survey, name, version, completeness):
    """A filter class whose tag stands for one version of one streaming filter.

    Parameters
    ----------
    class_name : str
        Also its name in ANTARES.
    survey : "ztf" or "lsst"
    name, version : str, int
        Of the streaming filter.
    completeness : float or None
        The share of lensed supernovae that it is held to keep.
    """
    tag = f"deepgravilens_{survey}_v{version}" + ("" if completeness is None else f"_c{completeness:g}")
    kept = "" if completeness is None else f", which is held to keep at least {completeness:.0%} of the lensed supernovae"
    properties = [
        (f"{tag}_log_odds", "float", "log likelihood ratio of the newest alert: lensed supernova against everything else"),
        (f"{tag}_max_log_odds", "float", "largest of all alerts of the locus"),
        (f"{tag}_num_passed_alerts", "int", "alerts of the locus that passed"),
        (f"{tag}_bundle", "str", "networks that the newest score comes from: id and hash"),
        (f"{tag}_last_alert", "str", "the survey's id of the alert that the newest score is of"),
    ]
    return type(class_name, (_Asking,), {
        "__doc__": f"What {name} version {version} says of {survey} alerts.",
        "SURVEY": survey, "FILTER": name, "VERSION": version, "NAME": tag, "TRIGGERING_SURVEY": survey,
        "OUTPUT_LOCUS_TAGS": [{"name": tag, "description": f"an alert passed DeepGraviLens's {name} version {version}{kept}"}],
        "OUTPUT_LOCUS_PROPERTIES": [{"name": n, "type": t, "description": d} for n, t, d in properties],
    })  # fmt: skip


DeepGraviLensLsst = make_filter("DeepGraviLensLsst", "lsst", "lensed_sn_lsst", *operating_point("lensed_sn_lsst"))
DeepGraviLensZtf = make_filter("DeepGraviLensZtf", "ztf", "lensed_sn_ztf", *operating_point("lensed_sn_ztf"))

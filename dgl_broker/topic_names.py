"""Names of Kafka topics, and templates that stand for one a night."""

import re
from datetime import datetime
from string import Formatter

TOPIC = re.compile(r"[A-Za-z0-9._-]{1,249}\Z")  # what Kafka takes as the name of a topic


def is_template(topic):
    """Whether a topic's name has a date in it, such as `ztf_{night:%Y%m%d}_programid1`."""
    return "{" in topic or "}" in topic


def is_topic_or_template(text):
    """Whether `text` names a topic, or does so with a night put in."""
    if not is_template(text):
        return TOPIC.match(text) is not None
    try:
        fields = {(name, conversion) for _, name, _, conversion in Formatter().parse(text) if name is not None}
        return fields == {("night", None)} and TOPIC.match(text.format(night=datetime(2026, 1, 2))) is not None
    except (ValueError, IndexError, KeyError):
        return False

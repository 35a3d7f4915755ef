"""The audit of `rekey`: every input of a window is written, dead-lettered, or refused by its pre-cuts, or is on a list.

What is written names the place of its input in the header `source`, and a dead letter does in its record. Refusals leave no
trace on a topic: inputs without an outcome are judged by the pre-cuts once more, and those that would go on are lost.
"""

from functools import partial

from dgl_broker.stream.audit import SCORED, Audit
from dgl_broker.stream.batch import message_headers
from dgl_broker.stream.redelivery import schemas_of
from dgl_broker.stream.rekey import WRITTEN, make_publisher, make_rekeyer


def place_of_written(message):
    """((topic, partition), offset) of the input of a slimmed alert; KeyError or TypeError where it does not say."""
    place, _, offset = dict(message_headers(message))["source"].decode("utf-8", "replace").rpartition("@")
    topic, _, partition = place.removesuffix("]").rpartition("[")
    if not (topic and partition.isdecimal() and offset.isdecimal()):
        raise KeyError("source")
    return (topic, int(partition)), int(offset)


class RekeyAudit(Audit):
    """The audit of a `rekey.yaml`; its report is as `Audit`'s, with `written` in place of `scored`."""

    done = WRITTEN
    max_age_s = None

    @staticmethod
    def _without_companions(settings):
        return settings  # it has none

    def _output_topics(self):
        s = self.settings
        return {s.rekey.topic: self._note_written, s.dead_letters_topic: partial(self._note_dead, None)}

    def _note_written(self, window, message):
        window.note(*place_of_written(message), SCORED, counts=True)

    def parts(self, closing):
        """(what judges, publisher); what they hold is let go when `closing` is."""
        rekeyer = make_rekeyer(self.settings, schemas_of(self.settings))
        closing.callback(rekeyer.filters.close)
        return rekeyer, make_publisher(self.settings)

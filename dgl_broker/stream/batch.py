"""Messages in hand: gathered, scored and delivered together, and the offsets to commit when they are out."""

from operator import methodcaller

from dgl_broker.alert import Message

_ask_for_headers = methodcaller("headers")


def as_message(kafka_message):
    """A confluent-kafka message as a `Message`; an absent value (a tombstone) is no bytes."""
    kind, timestamp_ms = kafka_message.timestamp()
    headers = message_headers(kafka_message)
    return Message(
        value=kafka_message.value() or b"",
        topic=kafka_message.topic(),
        partition=kafka_message.partition(),
        offset=kafka_message.offset(),
        key=kafka_message.key(),
        timestamp_ms=timestamp_ms if kind else None,
        headers=headers,
    )


def message_headers(kafka_message):
    """Headers of a confluent-kafka message; none at all where a name is not UTF-8: nothing of ours rests on others' headers.

    To be asked once a message: at such a name confluent-kafka (2.16.1) gives a result with an error set, and a second time a
    list that has holes, at which Python crashes. Through `methodcaller` Python looks for that error at each call; in a method
    call that it has specialised, as of the second message or so, it does not, and the error strikes whatever runs next.
    """
    try:
        return tuple(_ask_for_headers(kafka_message) or ())
    except (UnicodeDecodeError, SystemError):
        return ()


class Batch:
    """Messages in the order they came.

    Attributes
    ----------
    messages : list of Message
    n_bytes : int
        Of all values taken in.
    first, next : dict
        (topic, partition) -> offset of the first message in hand, and the offset after the last one.
    membership : object
        What the group knew this process as when the batch closed: the member's id, and for transactions its metadata.
    """

    def __init__(self):
        self.messages = []
        self.n_bytes = 0
        self.first = {}
        self.next = {}
        self.membership = None

    def __len__(self):
        return len(self.messages)

    def add(self, message):
        """Take one message in."""
        place = (message.topic, message.partition)
        self.messages.append(message)
        self.n_bytes += len(message.value)
        self.first.setdefault(place, message.offset)
        self.next[place] = message.offset + 1

    def drop(self, places):
        """Let go of partitions that are no longer ours: their next owner reads these messages again."""
        places = set(places)
        self.messages = [m for m in self.messages if (m.topic, m.partition) not in places]
        for place in places:
            self.first.pop(place, None)
            self.next.pop(place, None)

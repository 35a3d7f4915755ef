"""`input.start`: where a run begins in topics that exist when it starts."""

from confluent_kafka import TopicPartition


def start_offsets(consumer, places, start, watermarks, timeout_s):
    """(topic, partition) -> offset for a start other than "committed".

    Parameters
    ----------
    consumer : confluent_kafka.Consumer
    places : list of (topic, partition)
    start : "earliest", "latest" or int
        An int is a time [ms since 1970 UTC]: the first message at or after it.
    watermarks : callable
        (place) -> (low, high).
    timeout_s : float
    """
    marks = {place: watermarks(place) for place in places}
    if start == "earliest":
        return {place: low for place, (low, _) in marks.items()}
    if start == "latest":
        return {place: high for place, (_, high) in marks.items()}
    asked = [TopicPartition(*place, start) for place in places]
    found = consumer.offsets_for_times(asked, timeout=timeout_s) if asked else []
    offsets = {(f.topic, f.partition): f.offset for f in found}
    # Negative: nothing as late as that yet.
    return {place: offsets[place] if offsets.get(place, -1) >= 0 else marks[place][1] for place in places}

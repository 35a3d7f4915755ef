"""Where a run begins: by `input.start` in topics that exist when it starts, and in partitions that the group gives to it."""

from confluent_kafka import OFFSET_BEGINNING, TopicPartition


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


def first_offsets(known, at_start, reset, watermarks):
    """Where to begin in partitions that were just given.

    Parameters
    ----------
    known : dict
        Place -> offset that the group has committed, or that the start asked for; negative where there is none.
    at_start : collection of str
        Topics that existed when the run began; all of a later one is ours to read.
    reset : "earliest" or "latest"
        For those that existed.
    watermarks : callable
        (place) -> (low, high).

    Returns
    -------
    offsets : dict
        Place -> offset, `OFFSET_BEGINNING` where it is the earliest there is.
    latest : dict
        Those of them that are the end as it stands now, which nobody has committed yet.
    """
    offsets, latest = {}, {}
    for place, offset in known.items():
        if offset < 0:
            if place[0] not in at_start:
                offset = 0
            elif reset == "latest":
                offset = latest[place] = watermarks(place)[1]
            else:
                offset = OFFSET_BEGINNING
        offsets[place] = offset
    return offsets, latest

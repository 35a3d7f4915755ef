"""The demonstration: a simulated night through the real pipeline, on a Kafka inside this process.

`night` simulates packets, `stage` feeds them to an embedded Kafka and runs the streaming filter on it, `record` keeps what
came out, `report` and `table` show it. Nothing here scores, judges or counts: that is all the filter's own.
"""

"""Kafka: messages in by batches, outcomes out, offsets committed only for what is out.

`clients` (consumers and producers from the settings), `topics` (rolling nightly topics), `source`, `sink`, `delivery` (at least
once, exactly once), `run_loop`, `worker` (one process of it, made from the settings), `embedded` (a mock cluster in the
process). Nothing here knows what an alert is, but that `Scorer.score` gives one outcome per message.
"""

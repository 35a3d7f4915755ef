"""Several processes of the stream under one supervisor: one consumer group, one account, one page of metrics.

Each worker is the process that `run` without workers is. It tells the supervisor of every batch, before it leaves and when it
is out, over a pipe, one JSON object a line; and it ends in order when the pipe that it was given its settings by is closed,
so also when the supervisor is no more. The supervisor imports no torch.
"""

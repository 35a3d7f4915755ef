"""TOM Toolkit: reports of `dgl-broker report` as targets of a TOM, with the scores of their alerts.

`broker` is the module for `tom_alerts`, `service` the one for `tom_dataservices`, which TOM Toolkit 3 has in its place; both
find and save alike (`asked`). Reports are read from their topic, the scores of an object's alerts are asked of the service.
"""

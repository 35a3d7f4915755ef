"""The service: packets to outcomes over HTTP, and the filter's scores to hosts that have no pixels."""

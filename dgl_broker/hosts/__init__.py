"""Adapters for other brokers, one module a host, which imports its package and no other's. None is imported here."""

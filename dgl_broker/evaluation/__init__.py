"""The measures: objects are the unit, each judged at its k-th detection; shared by `evaluate`, `validate` and `tune`."""

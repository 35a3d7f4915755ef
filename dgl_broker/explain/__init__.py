"""One score explained: rebuilt from the kept bytes, scored again, compared, and taken apart by what moved it."""

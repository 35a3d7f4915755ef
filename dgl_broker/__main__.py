"""`python -m dgl_broker` is the command `dgl-broker`."""

from dgl_broker.cli import main

if __name__ == "__main__":
    raise SystemExit(main())

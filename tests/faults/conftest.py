"""Faults of one file run side by side: most of each is waiting for time-outs."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from faults.ledger import FORM, record

TRIES = 5 if FORM == "long" else 1
AT_ONCE = 3 if FORM == "long" else 32  # side by side they disturb each other's seconds


@pytest.fixture(scope="module")
def under_way(request, kafka, tmp_path_factory):
    """(fault, delivery) -> future of its Result, for all of this file that were asked for.

    The file's `FAULTS` maps a fault's name to a function of (broker, name, folder, delivery) that gives its Result.
    """
    asked = [
        item.callspec.params["case"]
        for item in request.session.items
        if item.path == request.path and "case" in getattr(getattr(item, "callspec", None), "params", {})
    ]

    def attempts(fault, delivery):
        total = None
        for n in range(1 if fault.startswith("sigkill") else TRIES):  # a storm is many tries by itself
            name = f"{fault}-{delivery}-{n}"
            one = request.module.FAULTS[fault](kafka, name, tmp_path_factory.mktemp(name), delivery)
            total = one if total is None else total + one
        record(total)
        return total

    with ThreadPoolExecutor(AT_ONCE) as pool:
        yield {case: pool.submit(attempts, *case) for case in asked}

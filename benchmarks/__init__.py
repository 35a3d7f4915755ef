"""What the filter costs, measured: `tox run -e bench`, or `python -m benchmarks NAME ...`.

One module a benchmark, with a `TITLE` and `run(options)` that yields `Measure`s (see `report`). What is compared runs on the
same alerts in the same run, one way after the other in turns (see `timing`), so that ratios hold on a busy machine as well.
"""

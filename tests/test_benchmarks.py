"""The benchmarks run, in their quick form, so that they cannot rot, and docs/performance.md says what the long form found."""

import json
import math
import os
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks import __main__ as command  # noqa: E402
from benchmarks import device, page, report, timing  # noqa: E402
from dgl_broker import model  # noqa: E402

MEASURED_HERE = (
    "simulator",
    "decode",
    "examples",
    "svm",
    "device",
)  # seconds each; `start` and `ensemble` take tens of them


@pytest.fixture(scope="module")
def quick(tmp_path_factory):
    """The results of the quick form, by a process as its user starts it; the shared alerts are left out."""
    out = tmp_path_factory.mktemp("bench")
    environment = {name: value for name, value in os.environ.items() if name != "DGL_SHARED"}
    run = [sys.executable, "-m", "benchmarks", *MEASURED_HERE, "--quick", "--out", str(out)]
    found = subprocess.run(run, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert found.returncode == 0, found.stderr[-2000:]
    return out, found.stdout


def test_each_benchmark_leaves_its_numbers_with_machine_and_versions(quick):
    out, printed = quick
    for name in MEASURED_HERE:
        one = json.loads((out / f"{name}.json").read_text())
        assert one["title"] in printed and one["machine"]["cores"] >= 1 and one["versions"]["numpy"]
        if one["not_run"]:
            assert f"not run: {one['not_run']}" in printed and not one["measures"]
            continue
        assert one["measures"]
        for measure in one["measures"]:
            for low, median, high in [*measure["ways"].values(), *measure["ratios"].values()]:
                assert 0 < low <= median <= high and math.isfinite(high)
            assert set(measure["goals"]) <= {*measure["ways"], *measure["ratios"]}


def test_decoding_is_measured_for_three_mixes_of_both_surveys(quick):
    out, _ = quick
    measures = json.loads((out / "decode.json").read_text())["measures"]
    names = {f"{survey}, {mix}" for survey in ("LSST", "ZTF") for mix in ("new objects", "20 earlier rows", "mature")}
    assert {measure["what"] for measure in measures} == names
    rows = {measure["what"]: float(re.search(r"(\d+) earlier rows", measure["notes"]["alerts"])[1]) for measure in measures}
    assert rows["LSST, new objects"] == rows["ZTF, new objects"] == 0 and rows["LSST, mature"] == rows["ZTF, mature"] == 700
    assert 15 <= rows["ZTF, 20 earlier rows"] <= 40 and rows["LSST, 20 earlier rows"] == 20
    mature = next(measure for measure in measures if measure["what"] == "LSST, mature")
    assert mature["ways"]["brokers' Python: fastavro + gzip + astropy"][1] > mature["ways"]["pure Python: first stage"][1]


def test_scikit_learn_and_ours_agree_where_they_are_compared(quick):
    out, _ = quick
    for measure in json.loads((out / "svm.json").read_text())["measures"]:
        assert measure["notes"]["agreement"].endswith("class equal for 2048 of 2048")
        assert float(re.search(r"within (\S+),", measure["notes"]["agreement"])[1]) < 1e-9


def test_networks_on_a_gpu_are_measured_in_both_precisions(monkeypatch):
    """On the processor in the place of the GPU, but for what the profiler tells: that is looked at below."""
    monkeypatch.setattr(device, "_shares", lambda ensemble, batch: (0.9, 0.1))
    monkeypatch.setattr(device, "BATCHES", (8, 16))
    bundle = model.load_bundle("default", survey="lsst")
    measure = device._measured("LSST, default bundle", bundle, SimpleNamespace(quick=True, rounds=2), "cpu")
    assert set(measure.ways) == {f"{precision}, {n} at a time" for precision in device.PRECISIONS for n in (8, 16)}
    assert all(0 < low <= median <= high for low, median, high in [*measure.ways.values(), *measure.ratios.values()])
    assert measure.ratios["float16: share of the time that the GPU works, 16 at a time"] == (0.9, 0.9, 0.9)
    assert 0 < float(re.search(r"at most ([\d.e-]+),", measure.notes["half precision"])[1]) < 0.5


def test_time_of_a_gpu_counts_what_overlaps_once():
    def event(name, start, end, device_type=torch.autograd.DeviceType.CUDA):
        return SimpleNamespace(name=name, device_type=device_type, time_range=SimpleNamespace(start=start, end=end))

    events = [event("sgemm", 0, 10e6), event("conv", 5e6, 12e6), event("gru", 20e6, 21e6), event("Memcpy HtoD", 1e6, 4e6),
              event("Memset (Device)", 30e6, 31e6), event("aten::mm", 0, 99e6, torch.autograd.DeviceType.CPU)]  # fmt: skip
    assert device.covered_s(events) == (13.0, 4.0)


def test_unknown_benchmark_is_an_error_that_names_those_there_are(capsys):
    with pytest.raises(SystemExit) as end:
        command.main(["decoding"])
    assert end.value.code == 2 and "decode, examples" in capsys.readouterr().err


def test_ways_are_measured_in_turns_and_by_item():
    clock = iter(float(n) for n in range(100))
    calls = []
    ways = {"a": lambda: calls.append("a"), "b": lambda: calls.append("b")}
    spent = timing.interleaved(ways, {"a": 1, "b": 4}, 3, clock=lambda: next(clock))
    assert calls == ["a", "a", "b", "b", "a", "b", "b", "a", "a", "b"]  # twice each uncounted, then in turns
    assert spent["a"].tolist() == [1e6] * 3 and spent["b"].tolist() == [0.25e6] * 3


def test_what_takes_no_time_is_done_several_times_in_a_measurement():
    now, calls = [0.0], []

    def way():
        calls.append(now[0])
        now[0] += 0.002

    spent = timing.interleaved({"short": way}, 2, 3, clock=lambda: now[0])
    assert len(calls) == 2 + 3 * 5 and spent["short"] == pytest.approx([1000.0] * 3)  # 10 ms by fives, 2 items in each 2 ms


def made(found):
    """A result of one benchmark whose ratio is `found`."""
    spent = {"theirs": [found * 2.0, found * 4.0], "ours": [2.0, 4.0]}
    ratios = {"times as fast": (spent["theirs"], spent["ours"])}
    return report.compared("thing", spent, ratios, {"times as fast": report.at_least(10), "ours": report.at_most(5)})


@pytest.mark.parametrize(("found", "verdict"), [(12.0, "met"), (8.0, "**missed**")])
def test_page_says_of_each_goal_whether_it_was_met(found, verdict, tmp_path):
    options = type("Options", (), {"out": tmp_path, "rounds": 2, "quick": False, "long": False, "alerts": "real"})
    report.write("decode", "1. Decoding", [made(found)], options, 30.0)
    report.write("device", "8. On a GPU", [], options, 0.1, "no CUDA device")
    text = page.page("# Performance\n\nbefore\n" + page.BEGIN + "\nold\n" + page.END + "\nafter\n", page.read_results(tmp_path))
    assert f"| 1 | thing | times as fast | at least 10x | {found:g}x | {found:g} to {found:g} | {verdict} |" in text
    assert "| 1 | thing | ours | at most 5 us an alert | 3 us an alert | 2.32 to 3.68 | met |" in text
    assert "### 8. On a GPU\n\nnot run: no CUDA device" in text and "old" not in text
    assert "- decode: " in text and "device: " not in text  # what it ran on is said of what was measured
    assert text.startswith("# Performance\n\nbefore\n") and text.endswith(page.END + "\nafter\n")
    assert text == page.page(text, page.read_results(tmp_path))
    assert ("missed" if found < 10 else "met") in report.text(made(found))


def test_page_names_what_is_not_measured(tmp_path):
    options = type("Options", (), {"out": tmp_path, "rounds": 2, "quick": False, "long": False, "alerts": "real"})
    report.write("decode", "1. Decoding", [made(12.0)], options, 30.0)
    lines = page.page(page.BEGIN + page.END, page.read_results(tmp_path)).splitlines()
    missing = [line for line in lines if line.endswith(": not measured yet")]
    assert missing == [f"- {name}: not measured yet" for name in command.BENCHMARKS if name != "decode"]


def test_what_fails_leaves_what_it_measured_and_the_next_goes_on(monkeypatch, tmp_path, capsys):
    def fails(options):
        yield made(12.0)
        raise RuntimeError("the stream stopped")

    ways = {"decode": fails, "svm": lambda options: [made(8.0)]}
    modules = {f"benchmarks.{name}": SimpleNamespace(TITLE=f"1. {name}", run=way) for name, way in ways.items()}
    monkeypatch.setattr(command, "import_module", modules.__getitem__)
    assert command.main(["decode", "svm", "--out", str(tmp_path)]) == 1
    failed, good = (json.loads((tmp_path / f"{name}.json").read_text()) for name in ways)
    assert len(failed["measures"]) == 1 and failed["not_run"].endswith("RuntimeError: the stream stopped")
    assert len(good["measures"]) == 1 and good["not_run"] is None and "failed: decode" in capsys.readouterr().err


def test_committed_page_has_the_committed_results():
    path = ROOT / "docs/performance.md"
    results = page.read_results(ROOT / "docs/performance")
    assert results and page.page(path.read_text(), results) == path.read_text()
    assert not any(one["options"]["quick"] for one in results)

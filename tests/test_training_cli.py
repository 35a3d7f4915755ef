"""The commands `dataset`, `train`, `evaluate` and `calibrate` on small data: what they write, and how they end."""

import json

import numpy as np
import pytest
from made_up import CARD, table

from dgl_broker.cli import main
from dgl_broker.cli.dataset import scaled_plan
from dgl_broker.errors import ConfigError
from dgl_broker.model import load_bundle
from dgl_broker.training.presets import load_preset
from dgl_broker.training.shards import write_shard

FRACTIONS = {"train": 0.4, "validation": 0.1, "stack": 0.1, "calibration": 0.1, "null": 0.1, "test": 0.2}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """A data folder of made-up examples, and a preset for it."""
    folder = tmp_path_factory.mktemp("data")
    made = table(900, fractions=FRACTIONS)
    write_shard(
        folder / "d", "x-00000", *made.rows(np.arange(len(made))), made.labels, {"kept": len(made), "refused.no_source": 3}
    )
    (folder / "d" / "dataset.json").write_text(json.dumps({"survey": "lsst", "input": CARD["input"]}))
    preset = {
        "card": {**{k: CARD[k] for k in ("kind", "survey", "input", "network")}, "id": "tiny", "trained": True, "limits": []},
        "training": {"epochs": 1, "batch": 64, "curve_rows": 50},
        "stack": {"svm_rows": 150, "svm": {"kernel": "rbf", "C": 1.0}, "min_null": 20},
    }
    (folder / "preset.json").write_text(json.dumps(preset))
    return folder


@pytest.fixture(scope="module")
def bundle(data):
    argv = [
        "train",
        "--preset-file",
        str(data / "preset.json"),
        "--data",
        str(data / "d"),
        "--out",
        str(data / "b"),
        "--device",
        "cpu",
    ]
    assert main(argv) == 0
    return data / "b"


def test_train_writes_a_bundle_and_says_what_it_was_made_of(bundle):
    card = json.loads((bundle / "card.json").read_text())
    assert card["trained"] and card["training"]["splits"]["train"]["no_lens"]["systems"] > 50
    assert {p.name for p in bundle.iterdir()} == {"card.json", "weights.safetensors", "svm.safetensors", "calibration.json"}


def test_evaluate_writes_report_and_summary_and_puts_the_headline_on_the_card(bundle, data, tmp_path, capsys):
    weights = (bundle / "weights.safetensors").read_bytes()
    argv = ["evaluate", str(bundle), "--data", str(data / "d"), "--out", str(tmp_path / "r"), "--garbage", "0", "--draws", "10"]
    assert main([*argv, "--device", "cpu", "--into-card"]) == 0
    assert "completeness [%]" in capsys.readouterr().out
    report = json.loads((tmp_path / "r" / "report.json").read_text())
    assert report["data"]["counts"][str(data / "d")]["refused.no_source"] == 3
    card = json.loads((bundle / "card.json").read_text())
    assert card["metrics"]["ece"] == pytest.approx(report["alerts"]["calibration"]["ece"])
    judged, ships = report["bundle"]["sha256"], report["bundle"]["sha256_with_figures"]
    assert ships == load_bundle(bundle).sha256 != judged
    assert (bundle / "weights.safetensors").read_bytes() == weights
    again = [
        *argv[:-6],
        "--out",
        str(tmp_path / "s"),
        "--garbage",
        "0",
        "--draws",
        "0",
        "--compare",
        str(tmp_path / "r"),
        "--device",
        "cpu",
    ]
    assert main([*again, "--no-ablation", "--no-fusions"]) == 0
    assert json.loads((tmp_path / "s" / "report.json").read_text())["comparison"]["tpr"] == []


def test_calibrate_writes_a_null_that_the_bundle_reads(bundle, tmp_path, capsys):
    import pyarrow as pa
    import pyarrow.parquet as pq

    from dgl_broker.model import Calibration, load_bundle

    loaded = load_bundle(str(bundle))
    n = 300
    columns = {
        "alert_id": list(range(n)),
        "object_id": [str(i) for i in range(n)],
        "ra": [10.0] * n,
        "dec": [0.0] * n,
        "status": ["scored"] * n,
        "log_odds": np.linspace(-5, 5, n).tolist(),
        "stratum": ["all"] * n,
        "bundle_sha256": [loaded.sha256] * n,
    }
    pq.write_table(pa.table(columns), tmp_path / "scores.parquet")
    argv = ["calibrate", "--from", str(tmp_path / "scores.parquet"), "--out", str(tmp_path / "c.json"), "--bundle", str(bundle)]
    assert main(argv) == 0
    found = Calibration.from_file(tmp_path / "c.json")
    assert found.scores_sha256 == loaded.scores_sha256 and len(found.null["all"]) == n
    assert "used" in capsys.readouterr().out


def test_a_refresh_that_is_worse_ends_with_7(bundle, data, tmp_path, monkeypatch):
    from dgl_broker.training import refresh as module

    def compare(old, new, test, device):
        return [{"what": "made up", "before": 0.5, "after": 0.4, "difference": -0.1, "interval": [-0.2, -0.05]}]

    monkeypatch.setattr(module, "compare", compare)
    preset = json.loads((data / "preset.json").read_text())
    monkeypatch.setattr(module, "load_preset", lambda name: preset)
    argv = ["train", "--refresh", str(bundle), "--data", str(data / "d"), "--out", str(tmp_path / "new"), "--device", "cpu"]
    assert main(argv) == 7
    assert not (tmp_path / "new").exists()
    assert main([*argv, "--force"]) == 0
    assert (tmp_path / "new" / "card.json").is_file()


def test_data_that_are_not_there_end_with_3_and_a_wrong_preset_with_2(tmp_path, capsys):
    assert (
        main(["train", "--survey", "lsst", "--data", str(tmp_path / "none"), "--out", str(tmp_path / "b"), "--device", "cpu"])
        == 3
    )
    argv = ["train", "--survey", "lsst", "--preset", "papper", "--data", str(tmp_path), "--out", str(tmp_path / "b")]
    assert main(argv) == 2
    assert "lsst_papper" in capsys.readouterr().err
    assert main(["dataset", "--packets", str(tmp_path), "--out", str(tmp_path / "d")]) == 2


def test_dataset_simulates_the_small_plan_in_two_processes(tmp_path, capsys):
    argv = [
        "dataset",
        "--simulate",
        "lsst_small",
        "--scale",
        "0.1",
        "--campaigns",
        "fit",
        "--out",
        str(tmp_path / "d"),
        "--workers",
        "2",
    ]
    assert main(argv) == 0
    out = capsys.readouterr().out
    assert "in more than one split: {'systems': 0, 'galaxies': 0, 'objects': 0, 'alerts': 0}" in out
    assert sum(int(line.split()[1]) for line in out.splitlines() if line.startswith("systems.")) == 20


def test_a_plan_is_scaled_by_whole_shards():
    plan = scaled_plan("lsst_alert", 0.01, ["fit", "null"])
    assert [c["name"] for c in plan["campaigns"]] == ["fit", "null"]
    assert all(c["systems"] % c["per_shard"] == 0 and c["systems"] > 0 for c in plan["campaigns"])
    with pytest.raises(ConfigError, match="fitt"):
        scaled_plan("lsst_alert", 1, ["fitt"])
    with pytest.raises(ConfigError, match="no plan"):
        scaled_plan("lsst_wide_paper")


def test_a_recipe_of_ones_own_for_a_paper_set_reads_a_paper_set(tmp_path, capsys):
    recipe = tmp_path / "own.json"
    recipe.write_text(json.dumps(load_preset("lsst_wide_paper")))
    assert main(["train", "--preset-file", str(recipe), "--data", str(tmp_path), "--out", str(tmp_path / "b")]) == 3
    assert "GROUP_1_ims" in capsys.readouterr().err

"""Making shards, with a source made up here in place of simulator and reader, so that counts can be told by hand."""

import json
from types import SimpleNamespace

import numpy as np
import pytest

from dgl_broker.errors import ConfigError, NotScorable, PacketError
from dgl_broker.scores import CLASSES
from dgl_broker.sim.system import CLASS_OF_KIND
from dgl_broker.training import dataset
from dgl_broker.training.dataset import make_dataset
from dgl_broker.training.plan import check_plan, chosen, kind_of
from dgl_broker.training.shards import Table, read_info, shard_names
from dgl_broker.training.splits import leakage, split_of

INPUT = {"image": {"planes": ["difference"], "side": 4}, "light_curve": {"features": ["mask"], "steps": 2}, "context": ["a"]}


def plan(**changes):
    campaign = {
        "name": "fit",
        "seed": 11,
        "systems": 20,
        "per_shard": 8,
        "kinds": {"agn": 1, "lensed_sn_ia": 1},
        "splits": {"train": 0.5, "test": 0.5},
        **changes,
    }
    return {"survey": "lsst", "input": INPUT, "alerts": {"early": 3, "later": 1}, "campaigns": [campaign]}


class Source:
    """Two objects a system with 6 and 2 alerts; every fifth system is silent; the second alert of each object is refused."""

    calls = 0

    def packets(self, seed, index, kind):
        self.calls += 1
        truth = {"lens_mag_i": 19.5, "host_mag_i": 23.0} if kind != "agn" else {"host_mag_i": 21.0}
        system = SimpleNamespace(kind=kind, label=CLASS_OF_KIND[kind], galaxy_id=index, truth=truth)
        if index % 5 == 0:
            return system, []
        packets = []
        for obj, n in ((0, 6), (1, 2)):
            for k in range(1, n + 1):
                labels = {"object_id": f"{index}-{obj}", "n_detections": k, "z_lens": 0.5, "n_images": 2}
                packets.append(SimpleNamespace(value=(index, obj, k), labels=labels))
        return system, packets

    def read(self, value):
        index, obj, k = value
        if (obj, k) == (1, 1):
            raise PacketError("truncated", "made up")
        return SimpleNamespace(
            object_id=f"{index}-{obj}",
            alert_id=2**60 + index * 100 + obj * 10 + k,
            n_detections=k,
            mjd_tai=60000.0 + k,
            first_detection_mjd_tai=60001.0,
            band="g",
            flux_njy=500.0,
            flux_err_njy=100.0,
            reliability=0.5,
        )

    def examples(self, alerts):
        return [NotScorable("no_template", "made up") if a.n_detections == 2 else self.example(a) for a in alerts]

    @staticmethod
    def example(alert):
        image = np.full((1, 4, 4), alert.n_detections, np.float32)
        completeness = SimpleNamespace(
            bands_used="g", n_epochs=2, valid_fraction=1.0, n_detections=alert.n_detections, stamp_snr=9.0, stamp_sharpness=0.1
        )
        return SimpleNamespace(image=image, completeness=completeness)

    def stack(self, examples):
        images = np.stack([e.image for e in examples])
        return SimpleNamespace(images=images, light_curves=images[:, 0, :2, :1], contexts=images[:, 0, 0, :1])

    def precut(self, alert):
        return 1


def test_accounts_of_packets_balance(tmp_path):
    counts = make_dataset(plan(), tmp_path, workers=0, source=Source())
    loud = 16
    assert counts["alerts"] == loud * 8
    # Of six alerts detections 1 to 3 and one later; of the other object's two, the first cannot be read.
    assert counts["unreadable.truncated"] == loud
    assert counts["refused.no_template"] == 2 * loud
    assert counts["kept"] == loud * 3 == len(Table.open(tmp_path))
    assert sum(v for k, v in counts.items() if k.startswith("systems.")) == 20
    assert sum(v for k, v in counts.items() if k.startswith("silent.")) == 4


def test_labels_say_what_the_packet_and_the_truth_say(tmp_path):
    make_dataset(plan(), tmp_path, workers=0, source=Source())
    table = Table.open(tmp_path)
    images, _, _ = table.rows(np.arange(len(table)))
    assert (images[:, 0, 0, 0] == table.labels["n_detections"]).all()
    for i in range(len(table)):
        row = {k: v[i] for k, v in table.labels.items()}
        assert row["split"] == split_of(11, int(row["system"]), plan()["campaigns"][0]["splits"])
        assert CLASSES[row["class"]] == CLASS_OF_KIND[row["kind"]]
        assert (
            row["alert_id"] > 2**60
            and row["snr"] == 5.0
            and row["z_lens"] == 0.5
            and row["days_since_first"] == row["n_detections"] - 1
        )
    found = leakage(table.labels)
    assert found["systems"] == found["galaxies"] == found["objects"] == found["alerts"] == 0


def test_a_run_cut_off_goes_on_and_a_finished_one_does_nothing(tmp_path):
    source = Source()
    make_dataset(plan(), tmp_path, workers=0, source=source)
    whole = Table.open(tmp_path).rows(range(48))[0]
    assert source.calls == 20
    make_dataset(plan(), tmp_path, workers=0, source=source)
    assert source.calls == 20
    import shutil

    shutil.rmtree(tmp_path / "shards" / "fit-00001")
    make_dataset(plan(), tmp_path, workers=0, source=source)
    assert source.calls == 28
    np.testing.assert_array_equal(Table.open(tmp_path).rows(range(48))[0], whole)


def test_a_campaign_grows_by_whole_shards_and_not_otherwise(tmp_path):
    make_dataset(plan(systems=16), tmp_path, workers=0, source=Source())
    make_dataset(plan(systems=24), tmp_path, workers=0, source=Source())
    assert shard_names(tmp_path) == ["fit-00000", "fit-00001", "fit-00002"]
    make_dataset(plan(systems=25), tmp_path, workers=0, source=Source())
    with pytest.raises(ConfigError, match="whole shards"):
        make_dataset(plan(systems=33), tmp_path, workers=0, source=Source())


def test_another_plan_in_the_same_folder_is_refused(tmp_path):
    make_dataset(plan(), tmp_path, workers=0, source=Source())
    with pytest.raises(ConfigError, match="another plan"):
        make_dataset(plan(splits={"train": 1.0}), tmp_path, workers=0, source=Source())
    assert json.loads((tmp_path / "dataset.json").read_text())["campaigns"][0]["splits"]["test"] == 0.5


def test_the_folder_says_which_data_systems_were_drawn_from_and_takes_no_others(tmp_path, monkeypatch):
    def drawn_from(fingerprint):
        monkeypatch.setattr(dataset, "data_fingerprint", lambda: fingerprint)
        make_dataset(plan(systems=16), tmp_path, workers=0, source=Source())
        return read_info(tmp_path).get("simulator_data", "not said")

    assert drawn_from("0123456789ab") == "0123456789ab"
    with pytest.raises(ConfigError, match="another plan"):
        drawn_from(None)
    info = read_info(tmp_path)
    del info["simulator_data"]  # a folder of before this was written down
    (tmp_path / "dataset.json").write_text(json.dumps(info))
    assert drawn_from("0123456789ab") == drawn_from(None) == "not said"


def test_kinds_come_by_their_weights_and_from_the_name_alone():
    kinds = {"agn": 3, "tde": 1}
    names = [kind_of(5, i, kinds) for i in range(8000)]
    # Binomial, four sigma.
    assert abs(names.count("agn") / 8000 - 0.75) < 4 * np.sqrt(0.75 * 0.25 / 8000)
    assert names[4321] == kind_of(5, 4321, kinds) and kind_of(5, 1, None) is None


def test_early_alerts_are_all_kept_and_later_ones_by_hash():
    numbers = [1, 2, 3, 4, 5, 6, 7, 8]
    keep = chosen(numbers, 3, 2, "object")
    assert keep[:3] == [0, 1, 2] and len(keep) == 5 and keep == chosen(numbers, 3, 2, "object")
    assert len({tuple(chosen(numbers, 3, 2, f"object {i}")) for i in range(50)}) > 5


@pytest.mark.parametrize(
    "change", [{"kinds": {"agns": 1}}, {"splits": {"train": 0.5}}, {"galaxies": 1}], ids=["kind", "splits", "key"]
)
def test_a_plan_that_is_wrong_is_named(change):
    with pytest.raises(ConfigError):
        check_plan(plan(**change))


def test_one_seed_in_two_campaigns_is_refused():
    twice = plan()
    twice["campaigns"].append({**twice["campaigns"][0], "name": "more"})
    with pytest.raises(ConfigError, match="twice"):
        check_plan(twice)

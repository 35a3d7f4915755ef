"""The ensemble: a score depends on its alert alone, adds up by hand, and comes from the device that was asked for."""

import logging
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from made_up_bundles import fitted_fusion, part, random_batch, tiny_bundle, tiny_card

from dgl_broker.errors import ConfigError, DeviceUnavailable, NotScorable, StateError
from dgl_broker.model import Ensemble, Fusion, fit_null, untrained_bundle
from dgl_broker.model.bundle import Bundle
from dgl_broker.model.ensemble import padded_rows
from dgl_broker.model.importer import paper_card
from dgl_broker.model.untrained import untrained_card
from dgl_broker.scores import MEMBERS, Scores

LOG_ODDS_COMPANY, PROBABILITY_COMPANY = 1e-4, 1e-6  # property 2 of the design


def calibrated(bundle, log_odds, facts):
    null = fit_null(log_odds, facts, scores_sha256=bundle.scores_sha256, min_null=20)
    return Bundle(bundle.card, bundle.networks, bundle.fusion, null, bundle.sha256)


@pytest.fixture(scope="module")
def bundle():
    return tiny_bundle()


@pytest.mark.parametrize("made", ["tiny", "shared", "narrow", "paper"])
def test_company_does_not_matter(made):
    # Published widths but for GloNet, whose 45 million weights would take the test's time.
    paper = paper_card("des_wide") | {"network": {"widths": {"glonet": {"hidden": [256, 128]}}}}
    cards = {"narrow": untrained_card("lsst"), "paper": paper}
    bundle = tiny_bundle(card=cards.get(made), share_cnn=made == "shared")
    n = 24 if made == "paper" else 256
    batch = random_batch(bundle.shape, n)
    ensemble = Ensemble(bundle)
    whole = ensemble.score(batch)
    assert whole.log_odds.std() > 0.5  # scores that hardly differ would hide that they change
    order = np.random.default_rng(0).permutation(n)
    shuffled = ensemble.score(part(batch, order))
    np.testing.assert_allclose(shuffled.log_odds, whole.log_odds[order], rtol=0, atol=LOG_ODDS_COMPANY)
    for size in (1, 7) if made == "paper" else (1, 2, 3, 7, 33):
        for start in range(0, min(n, 2 * size), size):
            rows = slice(start, start + size)
            found = ensemble.score(part(batch, rows))
            np.testing.assert_allclose(found.log_odds, whole.log_odds[rows], rtol=0, atol=LOG_ODDS_COMPANY)
            np.testing.assert_allclose(found.probabilities, whole.probabilities[rows], rtol=0, atol=PROBABILITY_COMPANY)


def test_company_that_is_extreme_does_not_matter(bundle):
    batch = random_batch(bundle.shape, 8)
    expected = Ensemble(bundle).score(part(batch, slice(0, 1))).log_odds[0]
    batch.images[1:] = 1e30
    table = Ensemble(bundle).score(batch)
    assert table.log_odds[0] == pytest.approx(expected, abs=LOG_ODDS_COMPANY)


def test_batches_above_the_chunk_are_whole(bundle):
    ensemble = Ensemble(bundle)
    batch = random_batch(bundle.shape, 600)
    table = ensemble.score(batch)
    assert len(table) == 600
    for row in (0, 255, 256, 511, 512, 599):
        alone = ensemble.score(part(batch, slice(row, row + 1)))
        assert alone.log_odds[0] == pytest.approx(table.log_odds[row], abs=LOG_ODDS_COMPANY)


def test_no_alerts_give_no_scores(bundle):
    table = Ensemble(bundle).score(random_batch(bundle.shape, 0), [])
    assert len(table) == 0
    assert table.probabilities.shape == (0, 4)


def test_scores_add_up_by_hand(bundle):
    """Everything behind the networks, done again with numpy from the members' log-probabilities."""
    table = Ensemble(bundle, prevalence=1e-5).score(random_batch(bundle.shape, 20))
    fusion = bundle.fusion
    log_prob = table.member_log_prob
    pairwise = fusion.svm.pairwise(torch.from_numpy(np.exp(log_prob)).reshape(-1, 12)).numpy()
    np.testing.assert_allclose(table.pairwise, pairwise, atol=1e-12)
    inputs = np.hstack([np.maximum(log_prob.reshape(-1, 12), np.log(1e-7)), pairwise])
    inputs = (inputs - fusion.mean.numpy()) / fusion.scale.numpy()
    logits = inputs @ fusion.coefficients.numpy().T + fusion.intercepts.numpy()
    p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    np.testing.assert_allclose(table.probabilities, p, rtol=1e-10)
    lsn = p[:, 2] + p[:, 3]
    np.testing.assert_allclose(table.p_lsn, lsn, rtol=1e-10)
    share = fusion.class_mix[2] + fusion.class_mix[3]
    odds = lsn / (1 - lsn) / (share / (1 - share))
    np.testing.assert_allclose(table.log_odds, np.log(odds), atol=1e-9)
    prior = 1e-5 / (1 - 1e-5)
    np.testing.assert_allclose(table.posterior, odds * prior / (1 + odds * prior), rtol=1e-9)
    member = np.exp(log_prob[..., 2:]).sum(-1)
    np.testing.assert_allclose(table.member_p_lsn, member / np.exp(log_prob).sum(-1), rtol=1e-9)
    np.testing.assert_allclose(table.spread, np.log(member / np.exp(log_prob[..., :2]).sum(-1)).std(1), rtol=1e-9)
    np.testing.assert_array_equal(table.class_index, p.argmax(1))
    assert table.finite.all()


def test_rows_are_scores(bundle):
    ensemble = Ensemble(bundle)
    table = ensemble.score(random_batch(bundle.shape, 3))
    row = table[1]
    assert isinstance(row, Scores)
    assert row.log_odds == table.log_odds[1]
    assert row.p_lsn == pytest.approx(row.p_lensed_sn_ia + row.p_lensed_sn_cc, rel=1e-12)
    assert row.p_no_lens + row.p_lens + row.p_lsn == pytest.approx(1, rel=1e-12)
    assert (row.p_value, row.p_value_floor, row.stratum, row.calibration_id) == (None, None, None, None)
    assert (row.bundle_id, row.bundle_sha256) == ("tiny", bundle.sha256)
    assert (row.device, row.precision, row.prevalence) == ("cpu", "float32", 1e-6)
    assert len(row.member_p_lsn) == len(MEMBERS)
    np.testing.assert_array_equal(table.column("p_lensed_sn_ia"), table.probabilities[:, 2])
    np.testing.assert_array_equal(table.column("posterior"), table.posterior)


def test_p_values_come_from_the_stratum(bundle):
    facts = [{"n_detections": 1, "n_bands": 1, "snr": 7.0}] * 30 + [{"n_detections": 9, "n_bands": 3, "snr": 50.0}] * 30
    lit = calibrated(bundle, np.concatenate([np.full(30, -1e9), np.full(30, 1e9)]), facts)
    table = Ensemble(lit).score(random_batch(bundle.shape, 3), [facts[0], facts[-1], {}])
    np.testing.assert_allclose(table.p_value, [1 / 31, 1.0, 31 / 61])
    np.testing.assert_allclose(table.p_value_floor, [1 / 31, 1 / 31, 1 / 61])
    assert table[0].stratum == "n_detections<3,n_bands<2,snr<10"
    assert table[2].stratum == "all"
    assert table[0].calibration_id == lit.calibration.calibration_id


def test_paper_mode_keeps_the_svms_class():
    scored, paper = tiny_bundle(), tiny_bundle(mode="paper")
    batch = random_batch(scored.shape, 50)
    a, b = Ensemble(scored).score(batch), Ensemble(paper).score(batch)
    np.testing.assert_array_equal(a.probabilities, b.probabilities)
    by_svm = paper.svm.classify(torch.from_numpy(b.pairwise)).numpy()
    np.testing.assert_array_equal(b.class_index, by_svm)
    np.testing.assert_array_equal(a.class_index, a.probabilities.argmax(1))


def test_one_alert_without_a_finite_output_harms_no_other(bundle):
    batch = random_batch(bundle.shape, 4)
    expected = Ensemble(bundle).score(batch)
    batch.images[2] = 3e38  # finite, but its sums are not
    table = Ensemble(bundle).score(batch)
    assert table.finite.tolist() == [True, True, False, True]
    np.testing.assert_allclose(table.log_odds[[0, 1, 3]], expected.log_odds[[0, 1, 3]], atol=LOG_ODDS_COMPANY)
    assert np.isnan(table.log_odds[2])
    with pytest.raises(NotScorable, match="not_finite"):
        table[2]


def test_failure_of_the_device_leaves_no_scores(bundle):
    ensemble = Ensemble(bundle)

    def fail(*arrays):
        raise RuntimeError("device lost")

    ensemble.feed.compute = fail
    with pytest.raises(RuntimeError, match="device lost"):
        ensemble.score(random_batch(bundle.shape, 4))


def test_wrong_shapes_are_told(bundle):
    batch = random_batch(bundle.shape, 2)
    ensemble = Ensemble(bundle)
    other = SimpleNamespace(images=batch.images[:, :1], light_curves=batch.light_curves, contexts=batch.contexts)
    with pytest.raises(ValueError, match=r"bundle tiny: images \(2, 1, 12, 12\), expected \(2, 2, 12, 12\)"):
        ensemble.score(other)
    with pytest.raises(ValueError, match="3 strata for 2 examples"):
        ensemble.score(batch, [{}] * 3)


def test_read_only_arrays_are_welcome(bundle):
    batch = random_batch(bundle.shape, 2)
    batch.images.flags.writeable = False
    assert len(Ensemble(bundle).score(batch)) == 2


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without a GPU")
@pytest.mark.parametrize("device", ["cuda", "cuda:0"])
def test_asked_for_a_gpu_that_is_not_there_it_stops(bundle, device):
    with pytest.raises(DeviceUnavailable, match="finds no CUDA device"):
        Ensemble(bundle, device=device)


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without a GPU")
def test_auto_says_what_it_took(bundle, caplog):
    with caplog.at_level(logging.WARNING):
        ensemble = Ensemble(bundle, device="auto")
    assert ensemble.device_name == "cpu"
    assert "running on cpu" in caplog.text


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"device": "tpu"}, "device 'tpu', expected cpu, cuda, cuda:N or auto"),
        ({"device": "meta"}, "device 'meta', expected cpu"),
        ({"precision": "int8"}, "precision 'int8', expected one of float32, float16"),
        ({"prevalence": 0.0}, "prevalence 0.0, expected a number above 0 and below 1"),
        ({"prevalence": 1}, "prevalence 1, expected"),
        ({"prevalence": "1e-6"}, "prevalence '1e-6', expected"),
    ],
)
def test_nonsense_is_told(bundle, options, message):
    with pytest.raises(ConfigError) as error:
        Ensemble(bundle, **options)
    assert message in str(error.value)


def test_networks_that_give_nothing_fail_at_the_start():
    bundle = tiny_bundle()
    for net in bundle.networks.values():
        net.out_fc[-1].bias.fill_(torch.nan)
    with pytest.raises(StateError, match="output for an empty example is not finite"):
        Ensemble(bundle)


def test_half_precision_moves_log_odds_within_the_designs_bound():
    """On the CPU's own float16: the rounding of a GPU without the GPU."""
    bundle = tiny_bundle()
    batch = random_batch(bundle.shape, 64)
    exact, half = Ensemble(bundle).score(batch), Ensemble(bundle, precision="float16").score(batch)
    moved = np.abs(half.log_odds - exact.log_odds)
    assert (moved <= np.maximum(0.02, 0.01 * np.abs(exact.log_odds))).all()
    assert moved.max() > 1e-6  # it was half precision
    assert half[0].precision == "float16"


def test_rows_are_padded_to_few_sizes():
    assert [padded_rows(n, "cpu") for n in (1, 8, 9, 255, 256)] == [8, 8, 16, 256, 256]
    assert [padded_rows(n, "cuda") for n in (1, 16, 17, 1000, 1024)] == [16, 16, 32, 1024, 1024]


def test_settings_of_the_process_are_left_as_they_were(bundle):
    before = torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32, torch.is_inference_mode_enabled()
    Ensemble(bundle).score(random_batch(bundle.shape, 2))
    after = torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32, torch.is_inference_mode_enabled()
    assert after == before


def test_mean_log_probability_needs_no_svm():
    table = Ensemble(untrained_bundle(card=tiny_card())).score(random_batch(tiny_bundle().shape, 4))
    mean = table.member_log_prob.mean(1)
    np.testing.assert_allclose(table.probabilities, np.exp(mean) / np.exp(mean).sum(1, keepdims=True), rtol=1e-12)
    assert table.pairwise is None
    assert Fusion().lsn_share == 0.5
    assert fitted_fusion().svm is not None


def test_scoring_starts_without_scikit_learn():
    code = (
        "import sys, numpy as np; from types import SimpleNamespace;"
        "from dgl_broker.model import Ensemble, untrained_bundle; b = untrained_bundle('lsst'); s = b.shape;"
        "a = SimpleNamespace(images=np.zeros((1, s.planes, s.side, s.side), 'f4'),"
        " light_curves=np.zeros((1, s.steps, s.features), 'f4'), contexts=np.zeros((1, s.context), 'f4'));"
        "Ensemble(b).score(a)[0]; sys.exit('sklearn' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0

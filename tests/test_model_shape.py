"""What a card may say about shapes, and what is told where it says something else."""

import copy

import pytest
from made_up_bundles import TINY_WIDTHS, tiny_card

from dgl_broker.errors import ConfigError
from dgl_broker.model import NetworkShape, Widths, alert_widths, paper_widths


def changed(path, value):
    card = copy.deepcopy(tiny_card())
    *parents, last = path.split(".")
    at = card
    for name in parents:
        at = at[name]
    if value is None:
        del at[last]
    else:
        at[last] = value
    return card


def test_shape_comes_from_the_card():
    shape = NetworkShape.from_card(tiny_card())
    assert (shape.planes, shape.side, shape.steps, shape.features, shape.context) == (2, 12, 5, 3, 2)
    assert shape.mask == 0  # the feature called "mask"
    assert shape.informed == 2 * 3 + 2
    assert shape.widths.cnn.channels == (4, 6, 8)
    assert shape.widths.gru.layers == 2  # left out on the card: as published


def test_a_card_can_name_its_mask():
    card = changed("input.light_curve.mask", "flux")
    assert NetworkShape.from_card(card).mask == 2
    with pytest.raises(ConfigError, match="bundle tiny: input.light_curve.mask 'valid', expected one of the features"):
        NetworkShape.from_card(changed("input.light_curve.mask", "valid"))


def test_no_mask_without_such_a_feature():
    assert NetworkShape.from_card(changed("input.light_curve.features", ["age", "flux"])).mask is None


def test_paper_card_has_published_widths():
    card = {
        "id": "p",
        "kind": "paper",
        "input": {"image": {"side": 45, "bands": "griz"}, "light_curve": {"steps": 7, "bands": "griz"}},
    }
    assert NetworkShape.from_card(card) == NetworkShape.paper(7)
    assert NetworkShape.paper(7).widths.gru.hidden == 8
    assert NetworkShape.paper(14).widths.gru.hidden == 16


@pytest.mark.parametrize(
    "widths", [Widths(), alert_widths(30), alert_widths(63), paper_widths(7), Widths.from_dict(TINY_WIDTHS)]
)
def test_widths_survive_the_card(widths):
    assert Widths.from_dict(widths.to_dict()) == widths


def test_narrow_widths_fit_both_surveys_stamps():
    assert alert_widths(30).cnn.side_after(30) == 8
    assert alert_widths(63).cnn.side_after(63) == 8


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("input", None, "bundle tiny: input is None, expected a table"),
        ("input.image.planes", None, "bundle tiny: input.image.planes is None, expected distinct names"),
        ("input.image.planes", ["template", "template"], "expected distinct names"),
        ("input.image.side", "30", "input.image.side '30', expected an integer from 4 to 512"),
        ("input.image.side", True, "input.image.side True, expected an integer"),
        ("input.light_curve.steps", 0, "input.light_curve.steps 0, expected an integer from 1 to 4096"),
        ("input.light_curve.features", [], "expected distinct names"),
        ("network.widths", {"cn": {}}, "network.widths: unknown key 'cn', expected cnn, gru"),
        ("network.widths", {"cnn": {"kernel": [3]}}, "network.widths.cnn: unknown key 'kernel'"),
        ("network.widths", {"cnn": {"kernels": [3, 3]}}, "3 channels, 2 kernels, 3 strides and 3 paddings"),
        ("network.widths", {"cnn": {"channels": [1e9, 1, 1]}}, "channels 1000000000.0, expected an integer from 1 to 65536"),
        ("network.widths", {"gru": {"layers": 99}}, "network.widths.gru.layers 99, expected an integer from 1 to 16"),
        ("network.widths", {"gru": {"dropout": 1.0}}, "network.widths.gru.dropout 1.0, expected a share"),
        ("network.widths", {"fc": {"hidden": [8, 8]}}, "network.widths.fc.hidden has 2 entries, expected 3"),
        ("network.widths", {"glonet": {"hidden": 8}}, "network.widths.glonet.hidden 8, expected a list"),
    ],
)
def test_errors_name_the_key_and_what_was_expected(path, value, message):
    with pytest.raises(ConfigError) as error:
        NetworkShape.from_card(changed(path, value))
    assert message in str(error.value)


def test_kernels_that_do_not_fit_the_stamp_are_named():
    card = changed("network.widths", {})  # published: the first kernel has 15 px
    card["input"]["image"]["side"] = 10
    with pytest.raises(ConfigError, match="kernels .15, 5, 5. do not fit a side of 10 px"):
        NetworkShape.from_card(card)

"""Networks made ready for inference, and the work that one forward pass is.

Folding multiplies batch normalisation into the dense layer or convolution beside it, and the value and output projections
of single-step attention into one matrix. It is done in float64, so scores move by rounding only.
"""

import copy

import torch
from torch import nn

from dgl_broker.model.fusion_networks import EncoderLayer, SingleStepAttention
from dgl_broker.model.networks import DeepCNN, ShallowGRU, SmallImageFC


def fold_batch_norm(networks):
    """A copy of a network, or of a dict of networks, without batch normalisation; evaluation mode.

    Trunks that networks of the dict share stay shared. The copy is for inference: its keys are no longer the published ones.
    """
    container = copy.deepcopy(nn.ModuleDict(networks) if isinstance(networks, dict) else networks).eval()
    with torch.no_grad():
        for module in list(container.modules()):
            _fold(module)
    for parameter in container.parameters():
        parameter.requires_grad_(False)
    return dict(container.items()) if isinstance(networks, dict) else container


def _fold(module):
    if isinstance(module, DeepCNN):
        for i in range(1, module.n_convolutions + 1):
            _into_previous(getattr(module, f"conv{i}"), getattr(module, f"bn{i}"))
            setattr(module, f"bn{i}", nn.Identity())
    elif isinstance(module, SmallImageFC):
        for i in range(1, module.N_LAYERS + 1):
            _into_previous(getattr(module, f"fc{i}"), getattr(module, f"bn{i}"))
            setattr(module, f"bn{i}", nn.Identity())
    elif isinstance(module, ShallowGRU):
        _into_next(module.bn, module.classifier[0])
        module.bn = nn.Identity()
    elif isinstance(module, EncoderLayer):
        module.self_attn = _one_matrix(module.self_attn)
    elif isinstance(module, nn.Sequential):
        _fold_sequence(module)


def _fold_sequence(sequence):
    """Fold each batch normalisation into the next dense layer of the same block; one that ends a block stays."""
    for i, norm in enumerate(sequence):
        if isinstance(norm, nn.BatchNorm1d):
            following = next((layer for layer in sequence[i + 1 :] if isinstance(layer, nn.Linear)), None)
            if following is not None:
                _into_next(norm, following)
                sequence[i] = nn.Identity()


def _scale_and_shift(norm):
    """Batch normalisation in evaluation mode as factor and offset per channel, float64."""
    scale = norm.weight.double() / torch.sqrt(norm.running_var.double() + norm.eps)
    return scale, norm.bias.double() - scale * norm.running_mean.double()


def _into_previous(layer, norm):
    """Fold `norm` into the dense layer or convolution whose output it normalises."""
    scale, shift = _scale_and_shift(norm)
    weight = layer.weight.double() * scale.view(-1, *[1] * (layer.weight.dim() - 1))
    layer.bias.copy_(layer.bias.double() * scale + shift)
    layer.weight.copy_(weight)


def _into_next(norm, layer):
    """Fold `norm` into the dense layer that takes its output."""
    scale, shift = _scale_and_shift(norm)
    weight = layer.weight.double()
    layer.bias.copy_(layer.bias.double() + weight @ shift)
    layer.weight.copy_(weight * scale)


def _one_matrix(attention):
    """Single-step attention as one dense layer: out(value(x))."""
    if not isinstance(attention, SingleStepAttention):
        return attention
    out = attention.out_proj
    width = out.in_features
    dense = nn.Linear(width, width, dtype=out.weight.dtype, device=out.weight.device)
    value_bias = attention.in_proj_bias[-width:].double()
    dense.weight.copy_(out.weight.double() @ attention.weight.double())
    dense.bias.copy_(out.weight.double() @ value_bias + out.bias.double())
    return dense


def flops(network):
    """Floating-point operations of one forward pass of one sample: 2 for each multiply-add of its matrix products.

    Counted on the pass itself, so a trunk that an ensemble runs once counts once; element-wise work is left out.

    Parameters
    ----------
    network : Network or an ensemble of them, with a `shape`; folded or not
    """
    counted = []

    def convolution(layer, inputs, output):
        counted.append(output[0].numel() * layer.in_channels // layer.groups * layer.kernel_size[0] * layer.kernel_size[1])

    def dense(layer, inputs, output):
        counted.append(layer.in_features * layer.out_features)

    def recurrent(layer, inputs, output):
        steps = inputs[0].shape[1]
        sizes = [layer.input_size] + [layer.hidden_size] * (layer.num_layers - 1)
        counted.append(sum(steps * 3 * layer.hidden_size * (n_in + layer.hidden_size) for n_in in sizes))

    def attention(layer, inputs, output):
        counted.append(layer.weight.numel())  # the value projection; the output projection is a dense layer

    counters = {nn.Conv2d: convolution, nn.Linear: dense, nn.GRU: recurrent, SingleStepAttention: attention}
    hooks = [m.register_forward_hook(counters[type(m)]) for m in network.modules() if type(m) in counters]
    was_training = network.training
    example = [torch.zeros(size, device=next(network.parameters()).device) for size in _input_sizes(network.shape)]
    try:
        with torch.inference_mode():
            network.eval()(*example)
    finally:
        network.train(was_training)
        for hook in hooks:
            hook.remove()
    return 2 * sum(counted)


def _input_sizes(shape):
    return (1, shape.steps, shape.features), (1, shape.planes, shape.side, shape.side), (1, shape.context)

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from landscape import LandscapeError, Layout

shapes = st.lists(st.lists(st.integers(1, 4), max_size=3).map(tuple), min_size=1, max_size=5)


def make(shapes):
    return Layout(
        names=tuple(f"p{i}" for i in range(len(shapes))),
        shapes=tuple(shapes),
        filter_axes=tuple(0 if len(s) >= 2 else None for s in shapes),
    )


@given(shapes)
def test_flatten_inverts_unflatten(shapes):
    layout = make(shapes)
    w = torch.arange(float(layout.size))
    parts = layout.unflatten(w)
    assert [tuple(p.shape) for p in parts.values()] == list(layout.shapes)
    assert torch.equal(layout.flatten(parts), w)


@given(shapes)
def test_offsets_point_at_the_parameters(shapes):
    layout = make(shapes)
    w = torch.arange(float(layout.size))
    for name, offset, size in zip(layout.names, layout.offsets, layout.sizes, strict=True):
        assert torch.equal(layout.unflatten(w)[name].reshape(-1), w[offset : offset + size])


@given(shapes)
def test_text_form_keeps_the_hash(shapes):
    layout = make(shapes)
    assert Layout.from_json(layout.to_json()) == layout
    assert Layout.from_json(layout.to_json()).hash == layout.hash


def test_hash_tells_layouts_apart():
    assert make([(2, 3)]).hash != make([(3, 2)]).hash


def test_filter_norms_are_those_of_rows_and_whole_vectors():
    layout = make([(2, 3), (4,)])
    w = torch.tensor([3.0, 4.0, 0.0, 1.0, 0.0, 0.0, 1.0, 1.0, 1.0, 1.0])
    assert layout.filter_norms(w).tolist() == [5.0] * 3 + [1.0] * 3 + [2.0] * 4


def test_filter_norms_of_a_convolution_are_per_output_channel():
    layout = Layout.of(torch.nn.Conv2d(2, 3, 3, bias=False))
    w = torch.randn(layout.size, generator=torch.Generator().manual_seed(0))
    expected = w.view(3, -1).norm(dim=1).repeat_interleave(18)
    assert torch.allclose(layout.filter_norms(w), expected)


def test_mask_selects_by_pattern():
    layout = Layout.of(torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.Linear(2, 1)))
    assert layout.mask("1.*").nonzero().flatten().tolist() == [6, 7, 8]
    assert layout.mask(["0.weight", "1.bias"]).sum() == 5


def test_tied_parameters_count_once():
    model = torch.nn.ModuleDict({"a": torch.nn.Linear(3, 3, bias=False), "b": torch.nn.Linear(3, 3, bias=False)})
    model["b"].weight = model["a"].weight
    assert Layout.of(model).size == 9


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda m: m.unflatten(torch.zeros(4)), r"shape \(6,\).*found \(4,\)"),
        (lambda m: m.mask("nothing*"), "no parameter matches 'nothing\\*'.*p0"),
        (lambda m: m.flatten({"p1": torch.zeros(2, 3)}), r"missing \['p0'\], not in it \['p1'\]"),
        (lambda m: m.flatten({"p0": torch.zeros(3, 2)}), r"shape \(2, 3\), found \(3, 2\)"),
    ],
)
def test_wrong_use_is_explained(call, message):
    with pytest.raises(LandscapeError, match=message):
        call(make([(2, 3)]))


def test_module_without_parameters_is_refused():
    with pytest.raises(LandscapeError, match="no trainable parameters"):
        Layout.of(torch.nn.ReLU())

"""Each fix of MXNet's exporter is needed, and with it the outputs are MXNet's."""

import sys
from contextlib import nullcontext

import mxnet as mx
import onnx
import pytest

from agedge.errors import AgedgeError
from agedge.runtime import load_card, load_model
from deploy.export import export_model
from deploy.formats import onnx_fixes
from deploy.tolerances import TOLERANCES, compare_raw
from tests.small_networks import convolved, every_operation, faces, save_small, two_answers


def colliding():
    """A mean called `m`, for which the exporter makes `m_1`, and an operation called `m_1`."""
    return two_answers(mx.sym.relu(mx.sym.mean(convolved(), axis=(2, 3), name="m"), name="m_1"))


def flattening():
    """Dense layers on (N, 8, 3, 3), without the word `flatten`."""
    return two_answers(mx.sym.Pooling(convolved(), kernel=(10, 10), stride=(10, 10), pool_type="max"))


def unsplit():
    return every_operation(split=False)


UNDONE = {
    "write_fixed_gammas": (lambda heads, args: args, unsplit),
    "spell_out_flatten": (lambda heads, shapes: heads, flattening),
    "rename_operations": (lambda heads: None, colliding),
    "shape_prelu_slopes": (lambda model, ranks: None, unsplit),
    "name_outputs": (lambda model, outputs, widths: None, unsplit),
    "stamp_opset": (nullcontext, unsplit),
    "skip_newest_check": (nullcontext, unsplit),
    "provide_mapping": (nullcontext, unsplit),
}
OLD_ONNX = tuple(map(int, onnx.__version__.split(".")[:2])) < (1, 19)


@pytest.mark.parametrize("fix", UNDONE)
def test_export_fails_without_the_fix_and_is_right_with_it(fix, tmp_path, monkeypatch):
    if OLD_ONNX and fix in ("provide_mapping", "stamp_opset", "skip_newest_check"):
        pytest.skip("this onnx is old enough to do without")
    undone, symbol = UNDONE[fix]
    save_small(tmp_path / "model", symbol())
    export_model(tmp_path / "model", ["onnx"], tmp_path / "out")
    images = faces(20)
    ours, theirs = (load_model(tmp_path / "out", runtime).raw_outputs(images) for runtime in ("mxnet", "onnx"))
    assert not TOLERANCES["onnx"].find_fault(compare_raw(ours, theirs))
    monkeypatch.setattr(onnx_fixes, fix, undone)
    with pytest.raises(AgedgeError):
        export_model(tmp_path / "model", ["onnx"], tmp_path / "wrong")


def test_ignoring_fix_gamma_is_a_large_error(tmp_path, monkeypatch):
    save_small(tmp_path / "model")
    monkeypatch.setattr(onnx_fixes, "write_fixed_gammas", lambda heads, args: args)
    monkeypatch.setitem(TOLERANCES, "onnx", type(TOLERANCES["onnx"])())  # let it through, to see how wrong it is
    (_, form) = export_model(tmp_path / "model", ["onnx"], tmp_path / "out")
    assert form.differences["age"].most > 5  # years


def test_comparisons_reach_ncnn_exactly(tmp_path):
    features = mx.sym.mean(convolved(), axis=(2, 3))
    older = mx.sym.FullyConnected(features, num_hidden=50, name="dense_age") > 0.1
    age = mx.sym.sum(older, axis=1, keepdims=True, name="age")
    p_male = mx.sym.sigmoid(mx.sym.FullyConnected(features, num_hidden=1, name="gender"), name="p_male")
    save_small(tmp_path / "model", mx.sym.Group([age, p_male]))
    export_model(tmp_path / "model", ["onnx", "ncnn"], tmp_path / "out")
    images = faces(50)
    mine = load_model(tmp_path / "model").predict(images).age
    assert len(set(mine)) > 5
    for runtime in ("onnx", "ncnn"):
        assert (load_model(tmp_path / "out", runtime).predict(images).age == mine).all()


def test_dense_layers_without_bias_reach_ncnn(tmp_path, monkeypatch):
    features = mx.sym.Flatten(mx.sym.Pooling(convolved(), global_pool=True, pool_type="avg", kernel=(1, 1)))
    symbol = two_answers(mx.sym.FullyConnected(features, num_hidden=6, no_bias=True, name="without_bias"))
    save_small(tmp_path / "model", symbol)
    export_model(tmp_path / "model", ["ncnn"], tmp_path / "out")  # raises over a tolerance
    monkeypatch.setattr(onnx_fixes, "write_zero_biases", lambda heads, args: (heads, args))
    with pytest.raises(AgedgeError, match="F.linear.* is not of a known type"):
        export_model(tmp_path / "model", ["ncnn"], tmp_path / "wrong")


def test_the_file_is_as_promised(exported_once):
    folder, _ = exported_once
    model = onnx.load(load_card(folder / "out").path("onnx", "model"))
    onnx.checker.check_model(model, full_check=True)
    assert (model.opset_import[0].version, model.ir_version) == (13, 8)
    assert [value.name for value in model.graph.input] == ["data"]
    assert [value.name for value in model.graph.output] == ["age", "p_male"]
    for value, width in ((model.graph.input[0], None), *((output, 1) for output in model.graph.output)):
        dims = value.type.tensor_type.shape.dim
        assert dims[0].dim_param == "batch"
        assert width is None or dims[1].dim_value == width


def test_the_packages_are_as_they_were_afterwards(exported_once):
    version, make_model, check = onnx.defs.onnx_opset_version, onnx.helper.make_model, onnx.checker.check_graph
    had_mapping = "onnx.mapping" in sys.modules
    with pytest.raises(RuntimeError), onnx_fixes.patch_exporter():
        assert onnx.defs.onnx_opset_version() == 13
        assert onnx.checker.check_graph is not check
        raise RuntimeError
    assert (version, make_model, check) == (
        onnx.defs.onnx_opset_version,
        onnx.helper.make_model,
        onnx.checker.check_graph,
    )
    assert ("onnx.mapping" in sys.modules) == had_mapping

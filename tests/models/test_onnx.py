"""Towers as graphs: the rows of the NumPy towers, which are compared with open_clip's elsewhere."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from tiny_models import (
    KINDS,
    SMALL_VISION,
    assert_they_differ,
    cosines,
    save_siglip,
    save_tensors,
    save_tiny,
    some_pixels,
)

from clipsearch.arrays import unit_rows
from clipsearch.errors import EncodingFailed
from clipsearch.models import cache, graph_encoders, onnx_towers, siglip
from clipsearch.models.encoders import Engine, NumpyEncoder
from clipsearch.models.graph_encoders import FP32, INT7, INT8, GraphEncoder, engines_for
from clipsearch.models.hub import resolve
from clipsearch.models.model import Model, from_folder, mini
from clipsearch.models.onnx_graph import Graph
from clipsearch.models.onnx_towers import Quantisation, graph_of, int8_linear, ranges_of
from clipsearch.models.weights import load_safetensors


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache, "cache_folder", lambda: tmp_path / "cache")


def agree(model: Model) -> None:
    pixels = some_pixels(model)
    expected = NumpyEncoder(model).encode_images(pixels)
    assert_they_differ(expected)
    rows = GraphEncoder(NumpyEncoder(model)).encode_images(pixels)
    assert rows.dtype == np.float32
    np.testing.assert_allclose(rows, expected, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_clips_rows(kind: str, tmp_path: Path) -> None:
    agree(save_tiny(tmp_path, **KINDS[kind]))


@pytest.mark.parametrize("kind", ["siglip", "siglip2"])
def test_siglips_rows(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(siglip._SIZES, "base", SMALL_VISION)
    agree(save_siglip(tmp_path, kind))


def test_minis_rows() -> None:
    agree(mini())


def test_the_true_vit_b_32(vit_b_32: Path) -> None:
    model = resolve("ViT-B-32", vit_b_32)
    pixels = some_pixels(model, 2)
    expected = NumpyEncoder(model).encode_images(pixels)
    np.testing.assert_allclose(GraphEncoder(NumpyEncoder(model)).encode_images(pixels), expected, atol=1e-5)
    assert cosines(GraphEncoder(NumpyEncoder(model), INT8).encode_images(pixels), expected).min() > 0.999


def test_int8_rows_do_not_depend_on_their_batch(tmp_path: Path) -> None:
    model = save_tiny(tmp_path)
    pixels = some_pixels(model)
    pixels[0] = 255  # a scale for the batch would change
    encoder = GraphEncoder(NumpyEncoder(model), INT8)
    together = encoder.encode_images(pixels)
    one_by_one = np.concatenate([encoder.encode_images(one[None]) for one in pixels])
    np.testing.assert_allclose(together, one_by_one, atol=1e-6)
    exact = NumpyEncoder(model).encode_images(pixels)
    assert cosines(together, exact).min() > 0.999
    assert not np.allclose(together, exact, atol=1e-6)


ways = pytest.mark.parametrize("how", [Quantisation(127, np.uint8, {}), Quantisation(63, np.int8, {})])


def layer(x: np.ndarray, weight: np.ndarray, bias: np.ndarray, how: Quantisation, lowest: float | None) -> np.ndarray:
    """`int8_linear` of x (rows, in); rows are passed as images of bytes and scaled in the graph."""
    import onnxruntime

    graph = Graph(1, x.shape[1] // 3)
    flat = graph.cast(graph.reshape(graph.input, -1, x.shape[1]), np.float32)
    value = graph.op("Mul", flat, np.array(1 / 64, np.float32))
    value = graph.op("Add", value, np.array(lowest or 0.0, np.float32))
    out = int8_linear(graph, value, weight, bias, how, lowest)
    session = onnxruntime.InferenceSession(graph.message(out, len(weight)), providers=["CPUExecutionProvider"])
    return session.run(None, {graph.input: x.reshape(len(x), 1, -1, 3)})[0]


@ways
@pytest.mark.parametrize("lowest", [None, -0.17])
def test_an_int8_layer_does_not_overflow(how: Quantisation, lowest: float | None) -> None:
    """Also with the largest weights and inputs, whose products overflow 16 bits on a processor without VNNI."""
    rng = np.random.default_rng(0)
    x = rng.choice(np.array([0, 255], np.uint8), (5, 768))
    weight = rng.choice(np.array([-1, 1], np.float32), (32, 768))
    weight[0] = 1
    bias = rng.standard_normal(32).astype(np.float32)
    expected = (x / 64 + (lowest or 0.0)) @ weight.T + bias
    np.testing.assert_allclose(layer(x, weight, bias, how, lowest), expected, rtol=2e-3, atol=0.5)


@ways
def test_a_row_of_zeros_is_no_division_by_zero(how: Quantisation) -> None:
    bias = np.arange(3, dtype=np.float32)
    out = layer(np.zeros((2, 48), np.uint8), np.ones((3, 48), np.float32), bias, how, None)
    np.testing.assert_array_equal(out, [bias, bias])


def test_quantised_weights_are_cached_and_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    models = [save_tiny(tmp_path / str(dim), embed_dim=dim) for dim in (16, 20, 24, 28)]
    pixels = some_pixels(models[0])
    expected = [GraphEncoder(NumpyEncoder(model), INT8).encode_images(pixels) for model in models]
    files = sorted((tmp_path / "cache").glob("*.onnx"))
    assert len(files) == graph_encoders._MOST_GRAPHS
    assert not any(models[0].fingerprint in path.name for path in files)
    with monkeypatch.context() as patch:
        patch.setattr(graph_encoders, "graph_of", lambda *_: pytest.fail("built again"))
        rows = GraphEncoder(NumpyEncoder(models[3]), INT8).encode_images(pixels)
        np.testing.assert_array_equal(rows, expected[3])
    for path in files:  # a damaged one is built again
        path.write_bytes(path.read_bytes()[:-100] + bytes(100))
    np.testing.assert_array_equal(GraphEncoder(NumpyEncoder(models[3]), INT8).encode_images(pixels), expected[3])


def test_fp32_has_no_operator_of_its_own(tmp_path: Path) -> None:
    """OpenVINO and Core ML have only the standard ones."""
    encoder = NumpyEncoder(save_tiny(tmp_path))
    for how, expected in ((None, False), (Quantisation(127, np.int8, {}), True)):
        message = graph_of(encoder.image_tower, encoder.model.preprocess, 24, how).message()
        assert (b"MatMulIntegerToFloat" in message) == expected


def test_the_messages_are_those_of_the_onnx_package(tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx", reason="needs the onnx package")
    for model in (save_tiny(tmp_path / "vit"), mini()):
        encoder = NumpyEncoder(model)
        built = graph_of(encoder.image_tower, model.preprocess, model.dim)
        found = onnx.load_from_string(built.message())
        onnx.checker.check_model(found, full_check=True)
        assert [one.name for one in found.graph.input] == [built.graph.input]
        assert len(found.graph.initializer) > len(built.graph.weights)


def test_the_engines_of_a_convnet_have_no_int8(tmp_path: Path) -> None:
    assert {INT7, INT8} & set(engines_for(NumpyEncoder(save_tiny(tmp_path))))
    assert not {INT7, INT8} & set(engines_for(NumpyEncoder(mini())))
    assert engines_for(NumpyEncoder(mini()))[0] == FP32


def test_a_failure_of_the_engine_is_one_sentence(tmp_path: Path) -> None:
    model = save_tiny(tmp_path)
    encoder = GraphEncoder(NumpyEncoder(model))
    with pytest.raises(EncodingFailed, match="the model failed on this device: "):
        encoder.encode_images(np.zeros((2, 5, 5, 3), np.uint8))


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_openvinos_rows(precision: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(siglip._SIZES, "base", SMALL_VISION)
    pytest.importorskip("openvino", reason="needs the extra openvino")
    for model in (save_tiny(tmp_path / "vit"), save_siglip(tmp_path / "siglip", "siglip2"), mini()):
        pixels = some_pixels(model)
        rows = GraphEncoder(NumpyEncoder(model), Engine("openvino", precision), 2).encode_images(pixels)
        least = 0.99999 if precision == "fp32" else 0.99
        assert cosines(rows, NumpyEncoder(model).encode_images(pixels)).min() > least


def test_nothing_of_torch_is_imported(tmp_path: Path) -> None:
    model = save_tiny(tmp_path)
    code = (
        "import sys; from pathlib import Path; import numpy as np;"
        "from clipsearch.models.model import from_folder; from clipsearch.models.engines import encoder_for;"
        f"model = from_folder(Path({str(tmp_path)!r}), 'x');"
        "encoder_for(model, 'auto', 'auto', 1, print).encode_images(np.zeros((2, 36, 36, 3), np.uint8));"
        "print(*sorted({'torch', 'open_clip', 'onnx'} & set(sys.modules)))"
    )
    command = [sys.executable, "-c", code]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout.split() == []
    assert model.dim == 24


def test_channels_with_large_values_do_not_spoil_int8(tmp_path: Path) -> None:
    """As in trained transformers, a few channels are many times as large as the others."""
    model = save_tiny(tmp_path)
    tensors = {name: tensor.copy() for name, tensor in load_safetensors(model.weights).items()}
    for name, tensor in tensors.items():
        if name.startswith("visual.transformer") and name.endswith(("ln_1.weight", "ln_2.weight")):
            tensors[name] = np.where(np.arange(len(tensor)) % 16 == 3, 40 * tensor, tensor)
        if name.startswith("visual.transformer") and name.endswith(("in_proj_weight", "c_fc.weight")):
            tensors[name] = np.where(np.arange(tensor.shape[1]) % 16 == 3, tensor / 40, tensor)
    save_tensors(tensors, model.weights)
    encoder = NumpyEncoder(from_folder(tmp_path, model.name))
    pixels = some_pixels(model)
    exact = encoder.encode_images(pixels)
    found = []
    for ranges in ({}, ranges_of(encoder.image_tower, pixels[:2])):
        message = graph_of(encoder.image_tower, model.preprocess, 24, Quantisation(127, np.uint8, ranges)).message()
        import onnxruntime

        session = onnxruntime.InferenceSession(message, providers=["CPUExecutionProvider"])
        found.append(1 - cosines(unit_rows(session.run(None, {"pixels": pixels})[0]), exact).min())
    assert found[1] < found[0] / 4
    assert encoder.image_tower.blocks.on_norm is None


def test_the_fastest_form_of_int8_is_offered_where_it_does_not_overflow(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoder = NumpyEncoder(save_tiny(tmp_path))
    for overflows, expected in ((True, {"fp32", "int7"}), (False, {"fp32", "int8"})):
        monkeypatch.setattr(graph_encoders, "overflows", lambda overflows=overflows: overflows)
        found = [engine.precision for engine in engines_for(encoder) if engine.library == "onnxruntime"]
        assert set(found) == expected


def test_this_processor_is_probed() -> None:
    flags = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    if "avx512_vnni" in flags or "avx_vnni" in flags:
        assert not onnx_towers.overflows()
    assert onnx_towers.overflows() in (True, False)

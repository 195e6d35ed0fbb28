"""Vision-language models in this program, on small networks of the true architectures with random weights."""

from __future__ import annotations

import importlib.util
import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import Run
from tiny_vlms import ENDS, TEXT, VISION, WORDS, save_vlm, tiny_owl

from clipsearch.errors import BadArgument, VlmUnusable
from clipsearch.images.box import Box, distinct
from clipsearch.index import Index
from clipsearch.models.describe import ANSWERER, CAPTIONER, Vlm
from clipsearch.models.detection import Detection, segment
from clipsearch.search.question import Limits, Question, text_terms

needs_vlm = pytest.mark.skipif(importlib.util.find_spec("transformers") is None, reason="needs the extra vlm")
pytestmark = needs_vlm

IMAGES = [np.full((40, 60, 3), shade, np.uint8) for shade in (0, 128, 255)]
IMAGES[1][:, ::2] = (255, 0, 0)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a folder for each model, as `save_pretrained` writes it."""
    import torch
    import transformers

    folder = tmp_path_factory.mktemp("models")
    torch.manual_seed(0)
    square = {"height": 32, "width": 32}
    blip = transformers.BlipConfig(
        text_config=TEXT | ENDS | {"encoder_hidden_size": 16}, vision_config=VISION, image_text_hidden_size=16
    )
    git = transformers.GitConfig(**TEXT, **ENDS, vision_config=VISION)
    labels = {"id2label": {0: "yes", 1: "no", 2: "two"}, "label2id": {"yes": 0, "no": 1, "two": 2}}
    vilt = transformers.ViltConfig(**TEXT, image_size=32, patch_size=16, **labels)
    made = {
        "blip": (transformers.BlipForConditionalGeneration(blip), transformers.BlipImageProcessor(size=square)),
        "blip-vqa": (transformers.BlipForQuestionAnswering(blip), transformers.BlipImageProcessor(size=square)),
        "git": (
            transformers.GitForCausalLM(git),
            transformers.CLIPImageProcessor(size={"shortest_edge": 32}, crop_size=square),
        ),
        "vilt": (
            transformers.ViltForQuestionAnswering(vilt),
            transformers.ViltImageProcessor(size={"shortest_edge": 32}),
        ),
    }
    made["owl"] = tiny_owl()
    seg = transformers.CLIPSegConfig(
        text_config=TEXT | ENDS,
        vision_config=VISION,
        projection_dim=16,
        extract_layers=[0],
        reduce_dim=8,
        decoder_num_attention_heads=2,
        decoder_intermediate_size=16,
    )
    made["clipseg"] = transformers.CLIPSegForImageSegmentation(seg), transformers.ViTImageProcessor(size=square)
    torch.nn.init.normal_(made["clipseg"][0].decoder.transposed_convolution.weight)  # so that some cells are surer
    for name, (network, processor) in made.items():
        save_vlm(folder / name, network, processor)
    _save_coca(folder / "coca")
    return folder


def _save_coca(folder: Path) -> None:
    import open_clip
    import torch
    from safetensors.torch import save_file

    tower = {"context_length": 76, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1}
    vision = {"image_size": 32, "layers": 1, "width": 32, "head_width": 16, "patch_size": 16}
    vision |= {"attentional_pool": True, "attn_pooler_heads": 2, "output_tokens": True}
    config: dict[str, Any] = {
        "embed_dim": 16,
        "vision_cfg": vision,
        "text_cfg": tower | {"embed_cls": True, "output_tokens": True},
        "multimodal_cfg": tower | {"attn_pooler_heads": 2},
        "custom_text": True,
    }
    folder.mkdir()
    about = {"model_cfg": config, "preprocess_cfg": {}}
    (folder / "open_clip_config.json").write_text(json.dumps(about))
    net = open_clip.CoCa(**{name: value for name, value in config.items() if name != "custom_text"})
    torch.nn.init.normal_(net.text_decoder.text_projection)
    weights = net.state_dict()
    for name in weights:  # what is seen counts more than the words before
        if "attn_pool" in name or "cross_attn" in name:
            weights[name] = torch.randn(weights[name].shape)
    save_file({name: one.contiguous() for name, one in weights.items()}, folder / "open_clip_model.safetensors")


@pytest.mark.parametrize("name", ["blip", "git"])
def test_captions_are_those_of_the_network(models: Path, name: str) -> None:
    import torch
    import transformers

    place = models / name
    captioner = Vlm(str(place)).captioner()
    captions = captioner.captions(IMAGES)
    assert len(captions) == 3
    network = transformers.AutoModelForImageTextToText.from_pretrained(place).eval()
    pixels = transformers.AutoImageProcessor.from_pretrained(place)(IMAGES, return_tensors="pt")
    with torch.inference_mode():
        tokens = network.generate(**pixels, max_new_tokens=50, do_sample=False)
    words = [[WORDS[token] for token in row if token > 4] for row in tokens.tolist()]  # the first are special
    assert captions == [" ".join(row) for row in words]
    assert any(captions)


def test_vilt_answers_with_the_probability(models: Path) -> None:
    import torch
    import transformers

    place = models / "vilt"
    answer = Vlm(str(place)).answerer().answer(IMAGES[0], "how many red circle")
    network = transformers.ViltForQuestionAnswering.from_pretrained(place).eval()
    pixels = transformers.AutoImageProcessor.from_pretrained(place)([IMAGES[0]], return_tensors="pt")
    tokens = [2, *(WORDS.index(word) for word in ["how", "many", "red", "circle"]), 3]
    with torch.inference_mode():
        logits = network(input_ids=torch.tensor([tokens]), **pixels).logits[0]
    best = int(logits.argmax())
    assert answer.text == ["yes", "no", "two"][best]
    assert answer.score == pytest.approx(float(logits[best].sigmoid()), abs=1e-5)


def test_blip_answers_and_long_questions_are_cut(models: Path) -> None:
    answerer = Vlm(str(models / "blip-vqa")).answerer()
    answer = answerer.answer(IMAGES[0], "is there a dog on the beach " * 20)
    assert (answer.question[:17], answer.score) == ("is there a dog on", None)
    assert set(answer.text.split()) <= set(WORDS)


def test_boxes_are_those_of_the_detector(models: Path, clipsearch: Run, tmp_path: Path) -> None:
    import torch
    import transformers
    from PIL import Image

    place, image = models / "owl", np.random.default_rng(0).integers(0, 256, (90, 60, 3), np.uint8)
    found = Vlm(str(place)).detector().detect(image, "a dog")
    network = transformers.Owlv2ForObjectDetection.from_pretrained(place).eval()
    processor = transformers.AutoImageProcessor.from_pretrained(place)
    tokens = torch.tensor([[2, WORDS.index("a"), WORDS.index("dog"), 3]])
    with torch.inference_mode():
        outputs = network(input_ids=tokens, **processor([image], return_tensors="pt"))
    expected = processor.post_process_object_detection(outputs, threshold=0.1, target_sizes=[(90, 60)])[0]
    boxes = {tuple(box) for box in expected["boxes"].clip(torch.zeros(4), torch.tensor([60, 90, 60, 90])).tolist()}
    pixels = {tuple(edge * side for edge, side in zip(one.box, (60, 90, 60, 90), strict=True)) for one in found}
    assert found
    assert all(any(np.allclose(one, other, atol=0.1) for other in boxes) for one in pixels)
    assert [one.score for one in found] == sorted((one.score for one in found), reverse=True)
    Image.fromarray(image).resize((600, 900)).save(tmp_path / "a.png")
    options = ["--detector", place, "--index", tmp_path / "index"]
    run = clipsearch("where", "a dog", tmp_path / "a.png", tmp_path / "none.png", *options, "-f", "jsonl")
    assert (run.status, run.err.count("\n")) == (2, 1)
    rows = [json.loads(line) for line in run.lines]
    assert all(row["width"] == 600 and 0 <= row["box"]["left"] <= row["box"]["right"] <= 600 for row in rows)
    counted = clipsearch("where", "a dog", tmp_path / "a.png", *options, "--count", "-f", "json")
    assert json.loads(counted.out)[0]["count"] == len(rows)
    assert clipsearch("where", "a dog", tmp_path / "a.png", "--count", "--index", tmp_path / "index").status == 2


def test_masks_are_those_of_the_segmenter(models: Path, clipsearch: Run, tmp_path: Path) -> None:
    import torch
    import transformers
    from PIL import Image

    place, image = models / "clipseg", np.random.default_rng(0).integers(0, 256, (90, 60, 3), np.uint8)
    (found,) = Vlm(str(place)).segmenter().detect(image, "a dog")
    network = transformers.CLIPSegForImageSegmentation.from_pretrained(place).eval()
    pixels = transformers.AutoImageProcessor.from_pretrained(place)([image], return_tensors="pt")
    tokens = torch.tensor([[2, WORDS.index("a"), WORDS.index("dog"), 3]])
    with torch.inference_mode():
        expected = network(input_ids=tokens, **pixels).logits.sigmoid().reshape(32, 32).numpy()
    assert found.heat is not None
    assert np.allclose(found.heat, expected, atol=1e-5)
    ys, xs = np.nonzero(expected >= 0.5)
    assert 0 < len(ys) < 32 * 32
    assert found.box == (xs.min() / 32, ys.min() / 32, (xs.max() + 1) / 32, (ys.max() + 1) / 32)
    assert found.area == pytest.approx(len(ys) / 32**2)
    assert found.score == pytest.approx(expected[ys, xs].mean(), abs=1e-5)
    Image.fromarray(image).resize((600, 900), 0).save(tmp_path / "a.png")
    options = ["--segmenter", place, "--index", tmp_path / "index"]
    run = clipsearch("where", "a dog", tmp_path / "a.png", *options, "-f", "jsonl", "--png", tmp_path / "masks")
    row = json.loads(run.out)
    assert list(row)[-4:] == ["box", "shares", "score", "area"]
    assert row["area"] == pytest.approx(found.area, abs=0.05)
    drawn = Image.open(tmp_path / "masks/a.png")
    assert drawn.size == (600, 900)
    changed = (np.asarray(drawn, int) != np.asarray(Image.open(tmp_path / "a.png"), int)).any(-1)
    heat = np.asarray(Image.fromarray(found.heat).resize((600, 900)))
    assert changed[heat > 0.6].mean() > 0.9
    counted = clipsearch("where", "a dog", tmp_path / "a.png", *options, "--count")
    assert (counted.status, counted.err) == (2, "clipsearch: --count needs --detector\n")


def test_an_empty_mask_is_nothing() -> None:
    assert segment(np.full((4, 4), 0.49)) is None


def test_hits_have_what_a_model_finds(models: Path, clipsearch: Run, drawn_index: Path, tmp_path: Path) -> None:
    asked = ("query", "a dog", "-k", 2, "--where", "--detector", models / "owl")
    run = clipsearch(*asked, "-f", "jsonl", "--html", tmp_path / "dogs.html", index=drawn_index)
    assert run.status == 0, run.err
    hits = [json.loads(line) for line in run.lines]
    assert len(hits) == 2
    with Index(drawn_index) as index:
        for hit in hits:
            found, metadata = index.detect("a dog", hit["path"], str(models / "owl"))
            assert found
            boxes = [tuple(one["box"].values()) for one in hit["detections"]]
            assert boxes == [one.pixels(metadata.width, metadata.height) for one in found]
            assert list(hit["detections"][0]) == ["text", "box", "shares", "score"]
            assert "where" not in hit
        question = Question(tuple(text_terms("a dog")), limits=Limits(1))
        (hit,) = index.with_detections(index.ask(question), question, segmenter=str(models / "clipseg"))
        assert [mark.heat is not None for mark in hit.marks] == [True]
    clipsearch("query", "a dog", "-k", 2, "--html", tmp_path / "plain.html", index=drawn_index)
    pictures = [re.findall(r"base64,([\w+/=]+)", (tmp_path / of).read_text()) for of in ("dogs.html", "plain.html")]
    assert all(marked != plain for marked, plain in zip(*pictures, strict=True))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("query", "a dog", "--detector", "owlv2", "-f", "json"), "--detector needs --where"),
        (
            ("query", "--image", "PHOTO", "--where", "--segmenter", "clipseg", "-f", "json"),
            "--segmenter needs a text to look for",
        ),
        (("where", "a dog", "PHOTO", "--detector", "owl", "--segmenter", "clipseg"), "not both"),
        (
            ("where", "a dog", "PHOTO", "--segmenter", "owl"),
            "owl is a model of type owlv2, which cannot segment photos",
        ),
    ],
)
def test_contradictory_options(
    arguments: tuple[str, ...], message: str, models: Path, clipsearch: Run, drawn: Path, drawn_index: Path
) -> None:
    places = {"PHOTO": drawn / "00.png", "owl": models / "owl"}
    run = clipsearch(*(places.get(word, word) for word in arguments), index=drawn_index)
    assert (run.status, run.out, run.err.count("\n")) == (2, b"", 1)
    assert message in run.err


def test_one_thing_is_boxed_once() -> None:
    best, same, other = Box(0.1, 0.1, 0.5, 0.5), Box(0.12, 0.1, 0.5, 0.52), Box(0.4, 0.4, 0.9, 0.9)
    found = distinct([Detection(same, 0.5), Detection(other, 0.3), Detection(best, 0.9)])
    assert found == [Detection(best, 0.9), Detection(other, 0.3)]


def test_coca_writes_the_likeliest_word_each_time(models: Path) -> None:
    import open_clip
    import torch

    name = f"local-dir:{models / 'coca'}"
    captions = Vlm(name).captioner().captions(IMAGES)
    net, _, transform = open_clip.create_model_and_transforms(name, load_weights=True)
    from PIL import Image

    batch = torch.stack([transform(Image.fromarray(image)) for image in IMAGES])
    for row, caption in enumerate(captions):
        tokens = [49406]
        with torch.inference_mode():
            while len(tokens) < 30 and tokens[-1] != 49407:
                scores = net.eval()(batch[row : row + 1], torch.tensor([tokens]), output_labels=False)["logits"][0, -1]
                scores[[49406, *([49407] if len(tokens) < 5 else [])]] = -torch.inf
                tokens.append(int(scores.argmax()))
        written = open_clip.decode(torch.tensor(tokens[1:])).partition("<end_of_text>")[0]
        assert caption == " ".join(written.split())
    assert len(set(captions)) > 1


@pytest.mark.parametrize(
    ("vlm", "job", "message"),
    [
        ("vilt", "captioner", "is a model of type vilt, which cannot caption photos here"),
        ("blip-vqa", "captioner", "is a model of type blip, which cannot caption photos here"),
        ("blip", "answerer", "is a model of type blip, which cannot answer questions about photos here"),
        ("vilt", "detector", "is a model of type vilt, which cannot detect things in photos"),
        ("coca", "answerer", "has no valid config.json"),
        ("pickled", "captioner", "pickled cannot be loaded: .*safetensors"),
        ("damaged", "captioner", "damaged cannot be loaded"),
    ],
)
def test_what_cannot_be_used_is_said_in_one_sentence(models: Path, vlm: str, job: str, message: str) -> None:
    place = models / vlm
    if vlm in ("pickled", "damaged") and not place.exists():
        shutil.copytree(models / "git", place)
        weights = place / "model.safetensors"
        if vlm == "pickled":
            weights.rename(place / "pytorch_model.bin")
        else:
            weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(VlmUnusable, match=message):
        getattr(Vlm(str(place)), job)()


def test_nothing_is_downloaded_offline() -> None:
    with pytest.raises(VlmUnusable, match=r"no/such-model .* is not cached, and HF_HUB_OFFLINE is set"):
        Vlm("no/such-model").check_captioner()


def test_a_device_that_is_not_there(models: Path) -> None:
    with pytest.raises(BadArgument, match="device cuda:7 is not available"):
        Vlm(str(models / "git"), device="cuda:7").captioner()


def test_an_index_is_captioned_here(clipsearch: Run, models: Path, tmp_path: Path) -> None:
    from PIL import Image

    (tmp_path / "photos").mkdir()
    for number, image in enumerate(IMAGES):
        Image.fromarray(image).save(tmp_path / f"photos/{number}.png")
    index = tmp_path / "index"
    options = ["--captions", "--vlm-model", models / "git", "--device", "cpu", "--json"]
    done = clipsearch("index", tmp_path / "photos", "--model", "mini", *options, index=index)
    assert json.loads(done.out)["captioned"] == 3
    (caption,) = clipsearch("caption", tmp_path / "photos/0.png", index=index).lines
    word = next(word for word in caption.split() if word not in ("a", "on", "the", "is", "there", "it"))
    assert len(clipsearch("query", word, "--only", "captions", index=index).lines) >= 1


@pytest.mark.weights
def test_the_default_models_describe_a_photo(tmp_path: Path) -> None:
    """A red circle is drawn; the models of transformers are downloaded."""
    from PIL import Image, ImageDraw

    page = Image.new("RGB", (640, 480), "white")
    ImageDraw.Draw(page).ellipse((200, 120, 440, 360), fill="red")
    pixels = np.asarray(page)
    assert "red" in Vlm(CAPTIONER).captioner().captions([pixels])[0]
    assert Vlm(ANSWERER).answerer().answer(pixels, "what color is the circle?").text == "red"

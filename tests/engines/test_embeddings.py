"""Vectors against what the model itself gives, one text at a time."""

import json
import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_encoders import CONTEXT_LENGTH, HIDDEN_SIZE, add_modules, save_tiny_encoder
from transformers import AutoModel, AutoTokenizer

from gatehouse.engines.base import (
    EmbeddingOutput,
    EmbeddingRequest,
    EmbeddingTraits,
    GenerationRequest,
    ModelNotLoadable,
    RefusalKind,
    RequestRefused,
    TextPrompt,
)
from gatehouse.engines.pipelines import embeddings
from gatehouse.engines.pipelines.embeddings import EmbeddingEngine, load_embeddings
from gatehouse.engines.registry import EngineName, find_engine

TEXTS = ("the cat", "a dog ran over the hill and the mat came again", "日本語", "x", "hello world")


@pytest.fixture(scope="session")
def encoder_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_encoder(tmp_path_factory.mktemp("encoder"))


@pytest.fixture(scope="module")
def engine(encoder_folder: Path) -> EmbeddingEngine:
    return load_embeddings(encoder_folder)


@pytest.fixture
def folder(encoder_folder: Path, tmp_path: Path) -> Path:
    return shutil.copytree(encoder_folder, tmp_path / "model")


def run(engine: EmbeddingEngine, *requests: EmbeddingRequest) -> list[EmbeddingOutput]:
    for number, request in enumerate(requests):
        engine.add(number, request)
    outputs: dict[int, EmbeddingOutput] = {}
    while engine.has_work():
        for output in engine.step():
            assert output.request_id not in outputs
            outputs[output.request_id] = output
    return [outputs[number] for number in range(len(requests))]


def vectors(output: EmbeddingOutput) -> list[torch.Tensor]:
    assert output.embeddings is not None, output.failure
    return [
        torch.tensor(struct.unpack(f"<{len(vector) // 4}f", vector))
        for vector in output.embeddings.vectors
    ]


def embed(engine: EmbeddingEngine, *texts: str, **options: Any) -> list[torch.Tensor]:
    return vectors(run(engine, EmbeddingRequest(texts, **options))[0])


def states(folder: Path, text: str) -> torch.Tensor:
    """The encoder's last states of one text, of shape (tokens, size)."""
    inputs = AutoTokenizer.from_pretrained(folder)(text, return_tensors="pt")
    with torch.inference_mode():
        model = AutoModel.from_pretrained(folder, dtype=torch.float32).eval()
        output: torch.Tensor = model(inputs.input_ids).last_hidden_state[0]
    return output


def is_close(one: torch.Tensor, other: torch.Tensor) -> bool:
    return one.shape == other.shape and bool((one - other).abs().max() < 1e-5)


def test_many_texts_at_once_give_what_each_gives_alone(
    engine: EmbeddingEngine, encoder_folder: Path
) -> None:
    together = embed(engine, *TEXTS)
    for text, vector in zip(TEXTS, together, strict=True):
        assert is_close(vector, states(encoder_folder, text).mean(dim=0))
        assert is_close(vector, embed(engine, text)[0])
    assert not is_close(together[0], together[1])


def test_requests_share_a_pass_and_keep_their_own(
    engine: EmbeddingEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    alone = {text: embed(engine, text)[0] for text in TEXTS}
    requests = [EmbeddingRequest(TEXTS[n:] + TEXTS[:n]) for n in range(4)]
    for limit in (1, 7, 40, 4096):
        monkeypatch.setattr(embeddings, "MAX_BATCH_TOKENS", limit)
        for request, output in zip(requests, run(engine, *requests), strict=True):
            for text, vector in zip(request.texts, vectors(output), strict=True):
                assert isinstance(text, str)
                assert is_close(vector, alone[text])


POOLINGS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "pooling_mode_cls_token": lambda states: states[0],
    "pooling_mode_mean_tokens": lambda states: states.mean(dim=0),
    "pooling_mode_max_tokens": lambda states: states.max(dim=0).values,
    "pooling_mode_mean_sqrt_len_tokens": lambda states: states.sum(dim=0) / len(states) ** 0.5,
    "pooling_mode_lasttoken": lambda states: states[-1],
    "pooling_mode_weightedmean_tokens": lambda states: (
        (states * torch.arange(1, len(states) + 1)[:, None]).sum(dim=0)
        / sum(range(1, len(states) + 1))
    ),
}


@pytest.mark.parametrize("mode", POOLINGS)
def test_pooling_is_what_the_folder_says(folder: Path, mode: str) -> None:
    engine = load_embeddings(add_modules(folder, {mode: True}))
    for text, vector in zip(TEXTS, embed(engine, *TEXTS), strict=True):
        assert is_close(vector, POOLINGS[mode](states(folder, text)))
    assert engine.describe().embeddings == EmbeddingTraits(HIDDEN_SIZE, is_sentence_model=True)


def test_several_poolings_stand_side_by_side(folder: Path) -> None:
    config = {"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": True}
    engine = load_embeddings(add_modules(folder, config))
    expected = states(folder, "the cat")
    (vector,) = embed(engine, "the cat")
    assert is_close(vector, torch.cat([expected[0], expected.mean(dim=0)]))
    assert engine.describe().embeddings == EmbeddingTraits(2 * HIDDEN_SIZE, is_sentence_model=True)


def test_dense_layers_and_normalising_follow(folder: Path) -> None:
    add_modules(folder, {"pooling_mode": "mean"}, "Dense", "Normalize")
    engine = load_embeddings(folder)
    tensors = load_file(folder / "2_Dense" / "model.safetensors")
    pooled = states(folder, "hello world").mean(dim=0)
    expected = torch.tanh(tensors["linear.weight"] @ pooled + tensors["linear.bias"])
    (plain,) = embed(engine, "hello world", normalize=False)
    (normal,) = embed(engine, "hello world")
    assert is_close(plain, expected)
    assert is_close(normal, expected / expected.norm())
    assert engine.describe().embeddings == EmbeddingTraits(8, is_sentence_model=True)


def test_length_is_one_on_request(engine: EmbeddingEngine) -> None:
    plain, normal = (embed(engine, "the cat", normalize=wanted)[0] for wanted in (False, True))
    assert abs(float(normal.norm()) - 1) < 1e-5
    assert is_close(plain / plain.norm(), normal)
    assert embed(engine, "the cat")[0].equal(plain)


def test_long_texts_are_refused_unless_cut(engine: EmbeddingEngine, encoder_folder: Path) -> None:
    text = "x y " * 40
    with pytest.raises(RequestRefused, match="must have less than 65 tokens") as refused:
        engine.add(1, EmbeddingRequest((text,)))
    assert refused.value.kind is RefusalKind.VALIDATION
    tokenizer = AutoTokenizer.from_pretrained(encoder_folder)
    ids = tokenizer(text, add_special_tokens=False).input_ids
    room = CONTEXT_LENGTH - 2
    for left, kept in ((False, ids[:room]), (True, ids[-room:])):
        request = EmbeddingRequest((text,), truncate=True, truncate_left=left)
        whole = EmbeddingRequest(((1, *kept, 2),))
        cut, expected = (vectors(output)[0] for output in run(engine, request, whole))
        assert is_close(cut, expected)
    (output,) = run(engine, EmbeddingRequest((text, "x" * 10**6), truncate=True))
    assert output.embeddings is not None
    assert output.embeddings.num_tokens == (CONTEXT_LENGTH,) * 2
    with pytest.raises(RequestRefused, match="Given: at least"):
        engine.add(1, EmbeddingRequest(("x" * 10**6,)))


@pytest.mark.parametrize(
    "request_", [EmbeddingRequest(()), EmbeddingRequest(("x",) * 3000), EmbeddingRequest(((),))]
)
def test_nothing_and_too_much_are_refused(
    engine: EmbeddingEngine, request_: EmbeddingRequest
) -> None:
    with pytest.raises(RequestRefused) as refused:
        engine.add(1, request_)
    assert refused.value.kind is RefusalKind.VALIDATION


def test_unknown_ids_are_refused(engine: EmbeddingEngine) -> None:
    for token_id in (-1, 10**9):
        with pytest.raises(RequestRefused, match="token ids must be"):
            engine.add(1, EmbeddingRequest(((1, token_id),)))


def test_prompts_of_the_configuration_go_before_texts(folder: Path) -> None:
    add_modules(folder, {})
    config = {"prompts": {"query": "the ", "document": ""}, "default_prompt_name": "document"}
    (folder / "config_sentence_transformers.json").write_text(json.dumps(config))
    engine = load_embeddings(folder)
    assert is_close(embed(engine, "cat", prompt_name="query")[0], embed(engine, "the cat")[0])
    with pytest.raises(RequestRefused, match="`document`, `query`"):
        engine.add(1, EmbeddingRequest(("x",), prompt_name="other"))


def test_folder_may_shorten_the_context(folder: Path) -> None:
    add_modules(folder, {})
    (folder / "sentence_bert_config.json").write_text(json.dumps({"max_seq_length": 16}))
    assert load_embeddings(folder).describe().context_length == 16


def test_stored_half_precision_is_run_in_full(tmp_path: Path) -> None:
    engine = load_embeddings(save_tiny_encoder(tmp_path, torch.float16))
    assert engine.describe().dtype == "float32"
    together = embed(engine, *TEXTS)
    assert all(
        is_close(one, embed(engine, text)[0]) for one, text in zip(together, TEXTS, strict=True)
    )


def test_broken_numbers_fail_one_request_only(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    tokenizer = AutoTokenizer.from_pretrained(folder)
    (broken,) = tokenizer("x", add_special_tokens=False).input_ids
    weights["embeddings.word_embeddings.weight"][broken] = torch.nan
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    engine = load_embeddings(folder)
    fine, bad = run(engine, EmbeddingRequest(("the cat",)), EmbeddingRequest(("hello", "x")))
    assert fine.embeddings is not None
    assert bad.embeddings is None
    assert bad.failure is not None
    assert "not finite" in bad.failure.message


def test_cancelled_requests_are_forgotten(engine: EmbeddingEngine) -> None:
    engine.add(1, EmbeddingRequest(TEXTS))
    engine.add(2, EmbeddingRequest(("the cat",)))
    engine.cancel(1)
    engine.cancel(99)
    assert [output.request_id for output in engine.step()] == [2]
    assert not engine.has_work()


def test_lower_priority_number_goes_first(
    engine: EmbeddingEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(embeddings, "MAX_BATCH_TEXTS", 1)
    for number, priority in enumerate((5, 0, 5)):
        engine.add(number, EmbeddingRequest(("x",), priority=priority))
    order = [output.request_id for _ in range(3) for output in engine.step()]
    assert order == [1, 0, 2]


def test_too_many_waiting_is_overloaded(
    engine: EmbeddingEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(embeddings, "MAX_WAITING", 1)
    engine.add(1, EmbeddingRequest(("x",)))
    with pytest.raises(RequestRefused) as refused:
        engine.add(2, EmbeddingRequest(("x",)))
    assert refused.value.kind is RefusalKind.OVERLOADED
    engine.cancel(1)


def test_a_full_queue_keeps_out_only_who_would_go_last(
    engine: EmbeddingEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(embeddings, "MAX_WAITING", 1)
    engine.add(1, EmbeddingRequest(("x",), priority=2))
    engine.add(2, EmbeddingRequest(("x",), priority=1))
    for priority in (1, 2):
        with pytest.raises(RequestRefused):
            engine.add(3, EmbeddingRequest(("x",), priority=priority))
    engine.cancel(1)
    engine.cancel(2)


def test_encoder_generates_no_text(engine: EmbeddingEngine) -> None:
    with pytest.raises(RequestRefused, match="gives embeddings and generates no text"):
        engine.add(1, GenerationRequest(TextPrompt("x")))
    assert engine.tokenize(TextPrompt("x")).tokens[0].id == 1
    assert find_engine(EngineName.EMBEDDINGS) is load_embeddings


@pytest.mark.parametrize(
    ("name", "content", "why"),
    [
        ("modules.json", "{}", "not as sentence-transformers"),
        ("modules.json", "[", "not JSON"),
        ("modules.json", '[{"type": "a.Weird", "path": "1_Weird"}]', "`Weird`"),
        ("modules.json", '[{"type": "a.Pooling", "path": "../../etc"}]', "names no folder"),
        ("modules.json", '[{"type": "a.Dense", "path": "2_Dense"}]', "no linear layer"),
        ("modules.json", "[1]", "names no folder"),
        ("1_Pooling/config.json", '{"pooling_mode": "nonesuch"}', "no pooling mode"),
        ("1_Pooling/config.json", "3", "not as sentence-transformers"),
    ],
)
def test_modules_that_are_not_known_say_so(folder: Path, name: str, content: str, why: str) -> None:
    add_modules(folder, {})
    (folder / name).write_text(content)
    with pytest.raises(ModelNotLoadable, match=why) as refused:
        load_embeddings(folder)
    assert str(folder) not in refused.value.message

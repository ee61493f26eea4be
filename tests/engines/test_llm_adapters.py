"""Adapters beside each other in one batch, against `transformers` with each merged in."""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import torch
from generating import ask, run
from llm_models import Running, make_batch, save_decoder
from low_rank_adapters import draw_matrices, greedy, merged_model, save_adapter
from tiny_models import save_tiny_gpt2, save_tiny_llama
from transformers import AutoModelForCausalLM, AutoTokenizer

from gatehouse.engines.base import (
    AdapterFolder,
    EngineOptions,
    GenerationRequest,
    RefusalKind,
    RequestRefused,
    RunnerName,
    Speculation,
    WeightFormat,
)
from gatehouse.engines.choice import Machine, load_text_generation, runners_for
from gatehouse.engines.llm import loading
from gatehouse.engines.llm.adapter_config import AdapterInvalid
from gatehouse.engines.llm.engine import BatchedTextGeneration
from gatehouse.engines.llm.loading import load_batched_text_generation
from gatehouse.engines.llm.openvino_runner import (
    ComputeType,
    OpenVinoRunner,
    RunnerOptions,
    load_runner,
)
from gatehouse.engines.llm.resident_adapters import AdaptersBusy, ResidentAdapters
from gatehouse.engines.llm.runner import NO_ADAPTER, AdapterPlace

PROMPTS = ["the cat", "hello world", "a dog ran over the hill and", "while", "x"]
LONG = " ".join(PROMPTS * 3)
ALL = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
WITH_ADAPTERS = EngineOptions(takes_adapters=True)
NUM_NEW = 24


@dataclass(frozen=True)
class House:
    """A base, two adapters of it, and what each of the three makes of every prompt."""

    folder: Path
    adapters: tuple[AdapterFolder | None, ...]
    expected: tuple[dict[str, list[int]], ...]


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> House:
    folder = save_tiny_llama(tmp_path_factory.mktemp("base"), dtype=torch.float32)
    place = tmp_path_factory.mktemp("adapters")
    few = draw_matrices(folder, 4, ("q_proj", "v_proj"), seed=1)
    many = draw_matrices(folder, 20, ALL, seed=2, infix=".default")
    adapters = (None, save_adapter(place / "few", few), save_adapter(place / "many", many))
    models = [AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)]
    models += [merged_model(folder, matrices, 2.0) for matrices in (few, many)]
    tokenizer = AutoTokenizer.from_pretrained(folder)
    expected = tuple(
        {prompt: greedy(model, tokenizer, prompt, NUM_NEW) for prompt in (*PROMPTS, LONG)}
        for model in models
    )
    for first, second in itertools.combinations(expected, 2):
        assert all(first[prompt] != second[prompt] for prompt in PROMPTS)
    return House(folder, adapters, expected)


@pytest.fixture
def engine(house: House) -> Iterator[BatchedTextGeneration]:
    engine = load_batched_text_generation(house.folder, WITH_ADAPTERS, 1)
    yield engine
    engine.unload()


def requests_of(house: House, prompts: list[str], **options: Any) -> list[GenerationRequest]:
    """Every prompt with every adapter and without one."""
    return [
        ask(prompt, NUM_NEW, adapter=adapter, **options)
        for prompt in prompts
        for adapter in house.adapters
    ]


def expected_of(house: House, prompts: list[str]) -> list[list[int]]:
    return [expected[prompt] for prompt in prompts for expected in house.expected]


def answers(engine: BatchedTextGeneration, requests: list[GenerationRequest]) -> list[list[int]]:
    return [answer.ids for answer in run(engine, requests)]


def test_tokens_are_those_of_merged_weights_alone_and_together(
    engine: BatchedTextGeneration, house: House
) -> None:
    requests, expected = requests_of(house, PROMPTS), expected_of(house, PROMPTS)
    assert [answers(engine, [request])[0] for request in requests] == expected
    assert answers(engine, requests * 3) == expected * 3


def test_prompts_are_used_again_with_the_same_adapter_only(
    engine: BatchedTextGeneration, house: House
) -> None:
    requests = requests_of(house, [LONG], reuse_scope="ada")
    expected = expected_of(house, [LONG])
    for _ in range(2):  # one after the other, so that each finds what the ones before left
        assert [answers(engine, [request])[0] for request in requests] == expected


def test_preempted_sequences_come_back_to_their_adapter(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loading, "_cache_bytes", lambda *_: 5 * 32 * 2 * 2 * 2 * 16 * 4)
    engine = load_batched_text_generation(house.folder, WITH_ADAPTERS, 1)
    requests = [
        ask(prompt, 80, adapter=adapter) for prompt in PROMPTS[:2] for adapter in house.adapters
    ]
    alone = [answers(engine, [request])[0] for request in requests]
    expected = expected_of(house, PROMPTS[:2])
    assert [ids[:NUM_NEW] for ids in alone] == expected
    assert engine.scheduler.num_preemptions == 0
    assert answers(engine, requests) == alone
    assert engine.scheduler.num_preemptions > 0
    engine.unload()


def test_weights_stored_as_in_out_take_adapters_too(tmp_path: Path) -> None:
    folder = save_tiny_gpt2(tmp_path / "base")
    AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).save_pretrained(folder)
    matrices = draw_matrices(folder, 3, ("c_attn", "c_fc", "c_proj"))
    adapter = save_adapter(tmp_path / "adapter", matrices, fan_in_fan_out=True)
    model, tokenizer = merged_model(folder, matrices, 2.0), AutoTokenizer.from_pretrained(folder)
    engine = load_batched_text_generation(folder, WITH_ADAPTERS, 1)
    for prompt in PROMPTS:
        expected = greedy(model, tokenizer, prompt, NUM_NEW)
        assert answers(engine, [ask(prompt, NUM_NEW, adapter=adapter)]) == [expected]
    engine.unload()


@pytest.mark.parametrize(
    ("config", "scale"),
    [
        ({"lora_alpha": 6}, 6 / 4),
        ({"lora_alpha": 6, "use_rslora": True}, 6 / 2),
        ({"lora_alpha": 6, "alpha_pattern": {"v_proj": 2, "q_proj": 2}}, 2 / 4),
        ({"lora_alpha": 6, "alpha_pattern": {"j_proj": 2, "proj": 3, "^q_proj": 1}}, 6 / 4),
    ],
)
def test_scale_is_that_of_the_configuration(
    house: House,
    engine: BatchedTextGeneration,
    tmp_path: Path,
    config: dict[str, Any],
    scale: float,
) -> None:
    matrices = draw_matrices(house.folder, 4, ("q_proj", "v_proj"), seed=3)
    adapter = save_adapter(tmp_path / "adapter", matrices, **config)
    model = merged_model(house.folder, matrices, scale)
    tokenizer = AutoTokenizer.from_pretrained(house.folder)
    expected = [greedy(model, tokenizer, prompt, NUM_NEW) for prompt in PROMPTS]
    assert answers(engine, [ask(p, NUM_NEW, adapter=adapter) for p in PROMPTS]) == expected


def test_all_that_was_held_is_given_back(engine: BatchedTextGeneration, house: House) -> None:
    requests = requests_of(house, PROMPTS)
    for request_id, request in enumerate(requests):
        engine.add(request_id, request)
    engine.cancel(2)  # before it ever ran
    engine.step()
    for request_id in range(1, len(requests)):
        engine.cancel(request_id)
    assert engine._adapters._held
    while engine.has_work():
        engine.step()
    assert not engine._adapters._held
    store = engine._runner.adapters
    assert isinstance(store, ResidentAdapters)
    assert {place.num_holders for place in store._rows._places.values()} == {0}


def test_adapter_that_is_not_used_makes_room_and_one_in_use_does_not(
    house: House, tmp_path: Path
) -> None:
    runner = load_runner(house.folder, RunnerOptions(ComputeType.FLOAT32, adapter_rank=48))
    store = runner.adapters
    assert store is not None
    folders = {}
    for rank in (16, 17, 1):
        matrices = draw_matrices(house.folder, rank, ("q_proj",))
        folders[rank] = Path(save_adapter(tmp_path / str(rank), matrices).folder)
    first, second = store.hold("16", folders[16]), store.hold("17", folders[17])
    assert (first, second) == (AdapterPlace(0, 16), AdapterPlace(16, 48))
    with pytest.raises(AdaptersBusy):
        store.hold("1", folders[1])
    store.release("16")
    assert store.hold("1", folders[1]) == first
    assert store.hold("17", tmp_path / "not read again") == second
    store.release("1")
    store.release("17")
    with pytest.raises(AdaptersBusy):
        store.hold("16", folders[16]), store.hold("17b", folders[17])
    runner.close()


@pytest.mark.parametrize("compute_type", list(ComputeType))
@pytest.mark.parametrize("weight_format", [WeightFormat.STORED, WeightFormat.INT8])
def test_logits_depend_on_the_own_adapter_alone(
    tmp_path: Path, compute_type: ComputeType, weight_format: WeightFormat
) -> None:
    """Bit for bit, wherever the adapter lies and whatever others compute in the same batch."""
    folder = save_decoder(tmp_path / "base", "llama", dtype=torch.bfloat16)
    options = RunnerOptions(compute_type, 2, 2**22, weight_format=weight_format, adapter_rank=128)
    runner = load_runner(folder, options)
    assert runner.adapters is not None
    saved = [
        save_adapter(tmp_path / str(rank), draw_matrices(folder, rank, targets, seed=rank))
        for rank, targets in ((20, ALL), (8, ("q_proj",)), (40, ALL), (3, ("down_proj", "up_proj")))
    ]
    mine, *others = saved
    place = runner.adapters.hold(mine.key, Path(mine.folder))
    texts = [[5, 9, 33, 7, 80] * 5, [3] * 40, [200, 201]]
    alone = [logits_of(runner, [(text, place)])[0] for text in texts]
    plain = [logits_of(runner, [(text, NO_ADAPTER)])[0] for text in texts]
    runner.adapters.hold("other", Path(others[1].folder))
    elsewhere = runner.adapters.hold("mine again", Path(mine.folder))
    last = runner.adapters.hold("last", Path(others[2].folder))
    assert elsewhere != place
    crowd = [(texts[0], elsewhere), (texts[1], NO_ADAPTER), (texts[1], last)]
    crowd += [(texts[1], elsewhere), (texts[2], elsewhere), (texts[2], NO_ADAPTER)]
    given = logits_of(runner, crowd)
    expected = [alone[0], plain[1], None, alone[1], alone[2], plain[2]]
    for values, wanted in zip(given, expected, strict=True):
        if wanted is not None:
            np.testing.assert_array_equal(values, wanted)
    assert np.abs(alone[1] - plain[1]).max() > 0.1
    runner.close()


def logits_of(
    runner: OpenVinoRunner, texts: list[tuple[list[int], AdapterPlace]]
) -> list[np.ndarray[Any, np.dtype[np.float32]]]:
    """After all tokens of each text but three, and after those one at a time."""
    sequences = [
        Running(ids, range(4 * place, 4 * place + 4)) for place, (ids, _) in enumerate(texts)
    ]
    adapters = np.array([adapter for _, adapter in texts], np.int32)
    found: list[list[Any]] = [[] for _ in texts]
    for step in range(3):
        counts = [max(len(s.ids) - 2, 2) if step == 0 else 1 for s in sequences]
        pieces = [
            (place, (sequence, count))
            for place, (sequence, count) in enumerate(zip(sequences, counts, strict=True))
            if sequence.num_past + count <= len(sequence.ids)
        ]
        if not pieces:
            break
        batch = make_batch([piece for _, piece in pieces], runner.block_size)
        own = adapters[[place for place, _ in pieces]]
        values = runner.run(replace(batch, adapters=own)).values.copy()
        for (place, (sequence, count)), rows in zip(
            pieces, np.split(values, batch.begins[1:-1]), strict=True
        ):
            sequence.num_past += count
            found[place].append(rows)
    return [np.concatenate(rows) for rows in found]


def test_numbers_that_overflow_are_nobody_elses(
    engine: BatchedTextGeneration, house: House, tmp_path: Path
) -> None:
    matrices = draw_matrices(house.folder, 4, ALL)
    wild = {name: matrix * np.float32(1e37) for name, matrix in matrices.items()}
    adapter = save_adapter(tmp_path / "wild", wild, lora_alpha=4)
    engine.add(7, ask("the cat", 4, adapter=adapter))
    others = requests_of(house, PROMPTS)
    for number, request in enumerate(others):
        engine.add(100 + number, request)
    found: dict[int, list[int]] = {100 + number: [] for number in range(len(others))}
    failures = []
    while engine.has_work():
        for output in engine.step():
            if output.request_id == 7:
                failures.append(output.failure)
            else:
                found[output.request_id] += [token.token.id for token in output.tokens]
    assert failures[-1] is not None
    assert failures[-1].kind is RefusalKind.GENERATION
    assert list(found.values()) == expected_of(house, PROMPTS)


def test_engines_without_adapters_say_who_takes_them(house: House) -> None:
    request = ask("the cat", adapter=house.adapters[1])
    plain = load_batched_text_generation(house.folder, EngineOptions(), 1)
    with pytest.raises(RequestRefused, match="this model takes none here"):
        plain.add(1, request)
    plain.unload()
    options = EngineOptions(runner=RunnerName.TRANSFORMERS)
    other = load_text_generation(house.folder, options, 1)
    with pytest.raises(RequestRefused, match="`adapter_id` needs the runner `openvino`"):
        other.add(1, request)
    other.unload()


def test_models_with_adapters_go_to_who_takes_them() -> None:
    whole = Machine(has_openvino=True, has_cuda=True, torch_has_cuda=True, has_vllm=True)
    assert runners_for(WITH_ADAPTERS, whole) == (RunnerName.OPENVINO,)


def test_guessing_ahead_changes_no_answer_of_an_adapter(house: House) -> None:
    options = EngineOptions(takes_adapters=True, speculation=Speculation.PROMPT_LOOKUP)
    engine = load_batched_text_generation(house.folder, options, 1)
    requests, expected = requests_of(house, PROMPTS), expected_of(house, PROMPTS)
    assert [answers(engine, [request])[0] for request in requests] == expected
    assert answers(engine, requests) == expected
    engine.unload()


def test_a_message_with_an_adapter_travels(house: House) -> None:
    request = ask("the cat", adapter=house.adapters[1])
    data = msgspec.msgpack.encode(request)
    assert msgspec.msgpack.decode(data, type=GenerationRequest) == request


def test_adapter_over_the_room_for_all_is_refused(house: House, tmp_path: Path) -> None:
    runner = load_runner(house.folder, RunnerOptions(ComputeType.FLOAT32, adapter_rank=16))
    assert runner.adapters is not None
    adapter = save_adapter(tmp_path / "a", draw_matrices(house.folder, 17, ("q_proj",)))
    with pytest.raises(AdapterInvalid, match="rank is over 16"):
        runner.adapters.hold("a", Path(adapter.folder))
    runner.close()

"""Models with an encoder against `transformers.generate` on the same folder."""

import json
import random
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from generating import Answer, ask, run
from reversing_model import LENGTH, LETTERS, save_reversing_t5
from tiny_encoder_decoders import (
    BART_POSITIONS,
    save_tiny_bart,
    save_tiny_marian,
    save_tiny_mbart,
    save_tiny_t5,
)
from transformers import AutoModelForSeq2SeqLM, AutoTokenizer

from gatehouse.engines.base import (
    ChatPrompt,
    EngineOptions,
    Finish,
    FinishReason,
    GenerationRequest,
    Grammar,
    GrammarKind,
    InfillPrompt,
    ModelNotLoadable,
    Prompt,
    RequestRefused,
    SamplingParams,
    SequenceOutput,
    TaskPrompt,
    TextPrompt,
    TokensPrompt,
)
from gatehouse.engines.choice import load_text_generation as load_whatever_fits
from gatehouse.engines.pipelines.text_generation import TextGenerationEngine, load_text_generation

PROMPTS = ["the cat", "hello world", "a dog ran over the hill and", "while", "x", "on the mat " * 3]
SAVED: dict[str, Callable[[Path], Path]] = {
    "t5": save_tiny_t5,
    "bart": save_tiny_bart,
    "bart-bf16": lambda folder: save_tiny_bart(folder, torch.bfloat16),
    "mbart": save_tiny_mbart,
    "marian": save_tiny_marian,
}


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return {name: save(tmp_path_factory.mktemp(name)) for name, save in SAVED.items()}


@pytest.fixture(scope="module")
def engines(folders: dict[str, Path]) -> Iterator[dict[str, TextGenerationEngine]]:
    loaded = {name: load_text_generation(folder) for name, folder in folders.items()}
    yield loaded
    for engine in loaded.values():
        engine.unload()


@pytest.fixture
def t5(engines: dict[str, TextGenerationEngine]) -> TextGenerationEngine:
    return engines["t5"]


@pytest.fixture
def bart(engines: dict[str, TextGenerationEngine]) -> TextGenerationEngine:
    return engines["bart"]


def reference(folder: Path, text: str, **options: Any) -> list[int]:
    """What `generate` gives without beams, its start token left out."""
    model = AutoModelForSeq2SeqLM.from_pretrained(folder)
    inputs = AutoTokenizer.from_pretrained(folder)(text, return_tensors="pt")
    output = model.generate(
        inputs.input_ids,
        attention_mask=inputs.attention_mask,
        **({"num_beams": 1, "do_sample": False, "max_new_tokens": 20} | options),
    )
    return [int(token_id) for token_id in output[0, 1:]]


def one(engine: TextGenerationEngine, request: GenerationRequest) -> Answer:
    (answer,) = run(engine, [request])
    return answer


@pytest.mark.parametrize("name", SAVED)
def test_greedy_tokens_are_those_of_generate_alone_and_in_a_crowd(
    name: str, engines: dict[str, TextGenerationEngine], folders: dict[str, Path]
) -> None:
    expected = [reference(folders[name], text) for text in PROMPTS]
    assert len({tuple(ids) for ids in expected}) > 3  # what the encoder reads has a say
    engine = engines[name]
    assert [one(engine, ask(text, 20)).ids for text in PROMPTS] == expected
    assert [answer.ids for answer in run(engine, [ask(text, 20) for text in PROMPTS])] == expected


@pytest.mark.parametrize("name", ["t5", "bart"])
def test_sampled_tokens_are_those_of_generate_under_the_same_seed(
    name: str, engines: dict[str, TextGenerationEngine], folders: dict[str, Path]
) -> None:
    options: dict[str, Any] = {"temperature": 0.8, "top_k": 20, "repetition_penalty": 1.3}
    torch.manual_seed(7)
    expected = reference(folders[name], "the cat", do_sample=True, **options)
    request = ask("the cat", 20, sampling=SamplingParams(do_sample=True, seed=7, **options))
    others = [ask(text, 9, sampling=SamplingParams(do_sample=True)) for text in PROMPTS[:4]]
    assert one(engines[name], request).ids == expected
    assert run(engines[name], [*others, request, *others])[4].ids == expected


def test_cancelling_others_at_any_step_changes_nothing(
    bart: TextGenerationEngine, folders: dict[str, Path]
) -> None:
    expected = reference(folders["bart"], PROMPTS[2])
    for cancelled_after in range(6):
        for request_id, text in enumerate([PROMPTS[0], PROMPTS[2], PROMPTS[1]]):
            bart.add(request_id, ask(text, 20))
        ids: list[int] = []
        step = 0
        while bart.has_work():
            for output in bart.step():
                ids += [each.token.id for each in output.tokens if output.request_id == 1]
            if step == cancelled_after:
                bart.cancel(0)
                bart.cancel(2)
            step += 1
        assert ids == expected
        assert bart.budget.num_allocated == 0


def test_the_encoder_has_a_step_of_its_own_that_can_be_cancelled(t5: TextGenerationEngine) -> None:
    t5.add(1, ask("the cat", 5))
    assert t5.step() == []
    assert t5.budget.num_allocated > 5
    t5.cancel(1)
    assert t5.step() == []
    assert not t5.has_work()
    assert t5.budget.num_allocated == 0
    t5.add(2, ask("the cat", 5))
    outputs = [output for _ in range(6) for output in t5.step()]
    assert [len(output.tokens) for output in outputs] == [1] * 5
    assert outputs[0].start is not None
    assert outputs[0].start.num_prompt_tokens == 5


@pytest.mark.parametrize("name", ["t5", "bart", "mbart"])
def test_text_is_what_the_tokenizer_decodes(
    name: str, engines: dict[str, TextGenerationEngine], folders: dict[str, Path]
) -> None:
    tokenizer = AutoTokenizer.from_pretrained(folders[name])
    sampling = SamplingParams(do_sample=True, temperature=3.0)
    for answer in run(engines[name], [ask(text, 40, sampling=sampling) for text in PROMPTS]):
        assert answer.text == tokenizer.decode(answer.ids, skip_special_tokens=True)


def test_forced_end_counts_as_the_length_that_it_is(
    bart: TextGenerationEngine, t5: TextGenerationEngine
) -> None:
    answer = one(bart, ask("the cat", 12))
    assert [answer.ids[0], answer.ids[-1]] == [1, 2]
    assert answer.finish == Finish(FinishReason.LENGTH, 12)
    end = SamplingParams(logit_bias=((1, 1000.0),))
    assert one(t5, ask("the cat", 12, sampling=end)).finish == Finish(FinishReason.EOS_TOKEN, 1)


def test_rules_of_single_sequences_hold_and_those_of_beams_do_not(
    bart: TextGenerationEngine, folders: dict[str, Path], tmp_path: Path
) -> None:
    expected = reference(folders["bart"], "the cat")
    trigrams = [tuple(expected[at : at + 3]) for at in range(len(expected) - 2)]
    assert len(set(trigrams)) == len(trigrams)
    folder = shutil.copytree(folders["bart"], tmp_path / "model")
    _edit(folder / "generation_config.json", no_repeat_ngram_size=0)
    free = one(load_text_generation(folder), ask("the cat", 20)).ids
    assert free == reference(folder, "the cat") != expected
    _edit(folder / "generation_config.json", bad_words_ids=[[free[1]]])
    assert one(load_text_generation(folder), ask("the cat", 20)).ids == reference(folder, "the cat")
    assert one(bart, ask("the cat", 20)).ids == expected


def test_penalties_do_not_count_the_prompt(t5: TextGenerationEngine) -> None:
    plain = one(t5, ask("the cat", 12)).ids
    penalised = SamplingParams(frequency_penalty=2.0, presence_penalty=2.0)
    again = one(t5, ask("the cat", 12, sampling=penalised)).ids
    first_repeat = next(at for at in range(12) if plain[at] in plain[:at])
    assert again[:first_repeat] == plain[:first_repeat]
    assert again != plain


def test_log_probabilities_are_those_of_the_model(
    bart: TextGenerationEngine, folders: dict[str, Path]
) -> None:
    answer = one(bart, ask("hello world", 6, num_top_tokens=3))
    model = AutoModelForSeq2SeqLM.from_pretrained(folders["bart"])
    inputs = AutoTokenizer.from_pretrained(folders["bart"])("hello world", return_tensors="pt")
    decoder_ids = torch.tensor([[2, *answer.ids[:-1]]])
    with torch.no_grad():
        logits = model(inputs.input_ids, decoder_input_ids=decoder_ids).logits[0]
    logprobs = torch.log_softmax(logits, dim=-1)
    for row, generated in zip(logprobs, answer.tokens, strict=True):
        assert generated.token.logprob == pytest.approx(row[generated.token.id].item(), abs=1e-4)
        assert len(generated.top) == 3
        assert generated.top[0].logprob == pytest.approx(row.max().item(), abs=1e-4)


@pytest.mark.parametrize("name", ["bart", "mbart"])
def test_grammar_holds_behind_the_forced_first_token(
    name: str, engines: dict[str, TextGenerationEngine]
) -> None:
    prompt: Prompt = TextPrompt("the cat")
    if name == "mbart":
        prompt = TaskPrompt("the cat", "translation", "en_XX", "de_DE")
    request = GenerationRequest(
        prompt, max_new_tokens=30, grammar=Grammar(GrammarKind.REGEX, "[a-c]{3}x")
    )
    if name == "mbart":
        # llguidance knows no bytes of a vocabulary of words.
        with pytest.raises(RequestRefused, match="tokenizer cannot be constrained"):
            engines[name].add(1, request)
        return
    answer = one(engines[name], request)
    assert answer.ids[0] == 1
    assert re.fullmatch("[a-c]{3}x", answer.text)
    assert answer.finish is not None
    assert answer.finish.reason is FinishReason.EOS_TOKEN


def test_stop_string_ends_the_answer(bart: TextGenerationEngine) -> None:
    whole = one(bart, ask("the cat", 20))
    stop = whole.text[2:5]
    answer = one(bart, ask("the cat", 20, stop=(stop,), keep_stop=False))
    assert answer.text == whole.text[: whole.text.index(stop)]
    assert answer.finish is not None
    assert answer.finish.reason is FinishReason.STOP_SEQUENCE


def test_prompt_and_answer_have_lengths_of_their_own(
    bart: TextGenerationEngine, folders: dict[str, Path]
) -> None:
    longest = GenerationRequest(
        TokensPrompt((1, *[70] * (BART_POSITIONS - 2), 2)), max_new_tokens=BART_POSITIONS
    )
    answer = one(bart, longest)
    assert answer.start is not None
    assert answer.start.num_prompt_tokens == BART_POSITIONS
    assert len(answer.ids) <= BART_POSITIONS
    for request, says in (
        (
            GenerationRequest(TokensPrompt((70,) * 65)),
            "`inputs` must have less than 64 tokens. Given: 65",
        ),
        (ask("x", 65), "`max_new_tokens` must be <= 64. Given: 65"),
        (ask("x", 0), "`max_new_tokens` must be strictly positive"),
        (ask("x", 9, max_total_tokens=1), "`max_length` must be > 1. Given: 1"),
        (ask("x" * 20_000, 9), "`inputs` must have less than 64 tokens. Given: at least"),
        (ask("x", 9, prompt_details=True), "`decoder_input_details` needs a model that predicts"),
        (ask("x", 0, prompt_details=True), "`decoder_input_details` needs a model that predicts"),
    ):
        with pytest.raises(RequestRefused) as refused:
            bart.add(1, request)
        assert refused.value.message.startswith(f"Input validation error: {says}")
    assert len(one(bart, ask("x", 500, fit_to_context=True)).ids) <= BART_POSITIONS
    assert len(one(bart, ask("x", 500, max_total_tokens=8)).ids) == 7
    assert reference(folders["bart"], "x", max_new_tokens=None, max_length=8) == (
        one(bart, ask("x", 500, max_total_tokens=8)).ids
    )
    assert not bart.has_work()


def test_a_whole_answer_is_as_long_as_the_model_says(
    engines: dict[str, TextGenerationEngine], folders: dict[str, Path]
) -> None:
    wanted: dict[str, Any] = {"fit_to_context": True, "whole_answer": True}
    answer = one(engines["bart"], ask("the cat", 1000, **wanted))
    assert answer.ids == reference(folders["bart"], "the cat", max_new_tokens=None)
    assert len(answer.ids) == 29
    summary = GenerationRequest(
        TaskPrompt("the cat", "summarization"), max_new_tokens=1000, **wanted
    )
    told = reference(
        folders["t5"],
        "summarize: the cat",
        max_new_tokens=None,
        max_length=12,
        no_repeat_ngram_size=2,
    )
    assert one(engines["t5"], summary).ids == told
    assert len(one(engines["t5"], ask("the cat", 7, **wanted)).ids) == 7
    assert engines["mbart"].describe().encoder_length == BART_POSITIONS
    assert len(one(engines["mbart"], ask("the cat", 1000, **wanted)).ids) <= BART_POSITIONS


def test_relative_positions_have_no_end(t5: TextGenerationEngine, folders: dict[str, Path]) -> None:
    text = "the cat sat on the mat " * 40
    answer = one(t5, ask(text, 5))
    assert answer.start is not None
    assert answer.start.num_prompt_tokens > 512
    assert answer.ids == reference(folders["t5"], text, max_new_tokens=5)
    description = t5.describe()
    assert description.encoder_length == description.longest_prompt == 2048
    assert description.context_length == 4096


@pytest.mark.parametrize("name", ["t5", "bart"])
def test_truncating_keeps_the_end_and_the_special_tokens(
    name: str, engines: dict[str, TextGenerationEngine], folders: dict[str, Path]
) -> None:
    tokenizer = AutoTokenizer.from_pretrained(folders[name])
    text = "hello world and the cat"
    ids = tokenizer(text).input_ids
    first = 1 if name == "bart" else 0
    kept = [*ids[:first], *ids[-5:]]
    cut = GenerationRequest(TextPrompt(text, truncate=len(kept)), max_new_tokens=8)
    assert one(engines[name], cut).ids == (
        one(engines[name], GenerationRequest(TokensPrompt(tuple(kept)), max_new_tokens=8)).ids
    )
    with pytest.raises(RequestRefused, match="`truncate` leaves nothing of the text"):
        engines[name].add(1, GenerationRequest(TextPrompt(text, truncate=first)))


def test_a_task_cuts_the_end_of_what_is_too_long(bart: TextGenerationEngine) -> None:
    text = "the cat sat on the mat " * 30
    request = GenerationRequest(TaskPrompt(text, "summarization"), max_new_tokens=8)
    with pytest.raises(RequestRefused, match="`inputs` must have less than 64 tokens"):
        bart.add(1, request)
    cut = GenerationRequest(TaskPrompt(text, "summarization", cut_to_fit=True), max_new_tokens=8)
    answer = one(bart, cut)
    assert answer.start is not None
    assert answer.start.num_prompt_tokens == BART_POSITIONS


def test_tasks_and_languages_of_t5_are_texts_in_front(
    t5: TextGenerationEngine, folders: dict[str, Path]
) -> None:
    summary = GenerationRequest(TaskPrompt("the cat", "summarization"), max_new_tokens=11)
    assert one(t5, summary).ids == reference(
        folders["t5"], "summarize: the cat", max_new_tokens=11, no_repeat_ngram_size=2
    )
    german = TaskPrompt("the cat", "translation", "en", "de")
    assert one(t5, GenerationRequest(german, max_new_tokens=8)).ids == reference(
        folders["t5"], "translate English to German: the cat", max_new_tokens=8
    )
    french = TaskPrompt("the cat", "translation", "en", "fr")
    with pytest.raises(RequestRefused, match="the model translates `translation_en_to_de`"):
        t5.add(1, GenerationRequest(french))


def test_languages_of_mbart_are_tokens(
    engines: dict[str, TextGenerationEngine], folders: dict[str, Path]
) -> None:
    folder, engine = folders["mbart"], engines["mbart"]
    tokenizer = AutoTokenizer.from_pretrained(folder, src_lang="fr_XX")
    model = AutoModelForSeq2SeqLM.from_pretrained(folder)
    inputs = tokenizer("the cat", return_tensors="pt")
    target = tokenizer.convert_tokens_to_ids("de_DE")
    expected = model.generate(
        **inputs, num_beams=1, do_sample=False, max_new_tokens=12, forced_bos_token_id=target
    )
    prompt = TaskPrompt("the cat", "translation", "fr_XX", "de_DE")
    plain = one(engine, ask("the cat", 12)).ids
    answer = one(engine, GenerationRequest(prompt, max_new_tokens=12))
    assert answer.ids == expected[0, 1:].tolist() != plain
    assert answer.ids[0] == target
    for source, target_language, says in (
        ("fr_XX", "xx_XX", "`tgt_lang` must be one of `ar_AR`, .*Given: xx_XX"),
        ("english", "de_DE", "`src_lang` must be one of"),
        ("fr_XX", None, "`src_lang` and `tgt_lang` must be given together"),
    ):
        wrong = TaskPrompt("the cat", "translation", source, target_language)
        with pytest.raises(RequestRefused, match=says):
            engine.add(1, GenerationRequest(wrong))


@pytest.mark.parametrize(
    ("prompt", "says"),
    [
        (InfillPrompt("a", "b"), "no tokens to fill in the middle"),
        (ChatPrompt(({"role": "user", "content": "a"},)), "template not found"),
        (TokensPrompt(()), "no tokens"),
        (TokensPrompt((10**6,)), "token ids must be"),
        (TextPrompt("\ud800"), "half of a surrogate pair"),
        (TaskPrompt("a", "translation", "en", "de"), "does not say which languages it knows"),
    ],
)
def test_prompts_that_the_model_has_no_use_for_are_refused(
    bart: TextGenerationEngine, prompt: Prompt, says: str
) -> None:
    with pytest.raises(RequestRefused, match=says):
        bart.add(1, GenerationRequest(prompt))
    assert not bart.has_work()


def test_an_empty_text_is_what_the_special_tokens_make_of_it(bart: TextGenerationEngine) -> None:
    answer = one(bart, ask("", 5))
    assert answer.start is not None
    assert answer.start.num_prompt_tokens == 2


def test_broken_numbers_fail_one_sequence_only(folders: dict[str, Path]) -> None:
    engine = load_text_generation(folders["bart"])
    with torch.no_grad():
        engine._model.get_encoder().embed_positions.weight[30:] = float("nan")
    for request_id, length in ((1, 40), (2, 20)):
        engine.add(request_id, GenerationRequest(TokensPrompt((70,) * length), max_new_tokens=3))
    outputs: list[SequenceOutput] = []
    while engine.has_work():
        outputs += engine.step()
    assert [output.request_id for output in outputs if output.failure] == [1]
    assert engine.budget.num_allocated == 0


@pytest.mark.parametrize(
    ("name", "changes", "says"),
    [
        (
            "generation_config.json",
            {"decoder_start_token_id": None, "bos_token_id": None},
            "The model has no `decoder_start_token_id`.",
        ),
        (
            "generation_config.json",
            {"decoder_start_token_id": 10**6},
            "`decoder_start_token_id` must be a token id below",
        ),
        (
            "generation_config.json",
            {"forced_bos_token_id": "x"},
            "`forced_bos_token_id` must be a token id below",
        ),
        (
            "generation_config.json",
            {"forced_eos_token_id": [1, -5]},
            "`forced_eos_token_id` must be a token id below",
        ),
        ("config.json", {"d_model": 64}, "The shapes of the weights are not those"),
        ("config.json", {"model_type": "whisper"}, "The encoder of this model does not read text"),
    ],
)
def test_models_that_cannot_be_are_refused_with_a_sentence(
    folders: dict[str, Path], tmp_path: Path, name: str, changes: dict[str, Any], says: str
) -> None:
    folder = shutil.copytree(folders["bart"], tmp_path / "model")
    _edit(folder / name, **changes)
    with pytest.raises(ModelNotLoadable) as refused:
        load_text_generation(folder)
    assert says in refused.value.message
    assert not re.search(
        "<class| 0x|object has no|" + re.escape(str(tmp_path)), refused.value.message
    )


@pytest.mark.parametrize(
    "tasks",
    [
        [],
        {"summarization": 5, "translation_en_to_de": {"prefix": ["x"], "max_length": -1}},
        {"summarization": {"prefix": "x" * 5000, "min_length": True, "max_length": 2**80}},
    ],
)
def test_tasks_that_make_no_sense_add_nothing(
    folders: dict[str, Path], tmp_path: Path, tasks: Any
) -> None:
    folder = shutil.copytree(folders["t5"], tmp_path / "model")
    _edit(folder / "config.json", task_specific_params=tasks)
    engine = load_text_generation(folder)
    summary = GenerationRequest(TaskPrompt("the cat", "summarization"), max_new_tokens=6)
    assert one(engine, summary).ids == reference(folders["t5"], "the cat", max_new_tokens=6)


def test_the_engine_that_knows_every_architecture_is_chosen(folders: dict[str, Path]) -> None:
    for name in ("t5", "bart"):
        engine = load_whatever_fits(folders[name], EngineOptions(), 1)
        assert isinstance(engine, TextGenerationEngine)
        description = engine.describe()
        assert description.engine == "transformers"
        assert description.encoder_length is not None
        assert not description.can_infill


def test_a_trained_model_does_what_it_learned_for_many_at_once(tmp_path: Path) -> None:
    engine = load_text_generation(save_reversing_t5(tmp_path))
    generator = random.Random(1)
    texts = [" ".join(generator.choices(LETTERS, k=LENGTH)) for _ in range(40)]
    answers = run(engine, [ask(text, 20) for text in texts])
    assert all(answer.finish == Finish(FinishReason.EOS_TOKEN, LENGTH + 1) for answer in answers)
    right = [answer.text == text[::-1] for answer, text in zip(answers, texts, strict=True)]
    assert sum(right) >= 38


def _edit(path: Path, **values: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | values))

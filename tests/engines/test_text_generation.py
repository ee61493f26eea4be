"""The engine against `transformers.generate` on the same folder, which is what correct means."""

import json
import math
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from generating import ask, run
from tiny_models import CHAT_TEMPLATE, make_tokenizer
from tokenizers import AddedToken
from transformers import AutoModelForCausalLM, AutoTokenizer, MambaConfig, MambaForCausalLM

from gatehouse.engines.base import (
    ChatPrompt,
    ChatTraits,
    Finish,
    FinishReason,
    GenerationRequest,
    InfillPrompt,
    ModelNotLoadable,
    RefusalKind,
    RequestRefused,
    SamplingParams,
    TextPrompt,
    TokensPrompt,
)
from gatehouse.engines.pipelines import waiting_queue
from gatehouse.engines.pipelines.loading import load_language_model
from gatehouse.engines.pipelines.text_generation import TextGenerationEngine, load_text_generation
from gatehouse.engines.text.prompts import MAX_CHARACTERS_PER_TOKEN

PROMPTS = [
    "the cat",
    "hello world",
    "a dog ran over the hill and",
    "while",
    "the mat came again and the cat sat on",
    "日本語 text",
    "naïve café",
    "  two spaces",
    "x",
    "the the the the the the",
]


def reference(folder: Path, text: str, max_new_tokens: int = 24, **options: Any) -> list[int]:
    model = AutoModelForCausalLM.from_pretrained(folder)
    inputs = AutoTokenizer.from_pretrained(folder)(text, return_tensors="pt")
    output = model.generate(
        inputs.input_ids,
        attention_mask=inputs.attention_mask,
        max_new_tokens=max_new_tokens,
        **({"do_sample": False} | options),
    )
    return [int(token_id) for token_id in output[0, inputs.input_ids.shape[1] :]]


@pytest.fixture(scope="module", params=["llama", "gpt2"])
def folder(request: pytest.FixtureRequest, llama_folder: Path, gpt2_folder: Path) -> Path:
    return llama_folder if request.param == "llama" else gpt2_folder


@pytest.fixture(scope="module")
def engine(folder: Path) -> TextGenerationEngine:
    return load_text_generation(folder)


@pytest.fixture(scope="module")
def llama(llama_folder: Path) -> TextGenerationEngine:
    return load_text_generation(llama_folder)


def test_greedy_tokens_are_those_of_generate(engine: TextGenerationEngine, folder: Path) -> None:
    expected = [reference(folder, prompt) for prompt in PROMPTS]
    assert len({tuple(ids) for ids in expected}) > 5  # the prompts do lead to different places
    alone = [run(engine, [ask(prompt)])[0].ids for prompt in PROMPTS]
    assert alone == expected


def test_eight_at_once_give_the_tokens_of_one_alone(
    engine: TextGenerationEngine, folder: Path
) -> None:
    together = run(engine, [ask(prompt) for prompt in PROMPTS[:8]])
    assert [answer.ids for answer in together] == [reference(folder, text) for text in PROMPTS[:8]]


def test_text_is_what_the_tokenizer_decodes(engine: TextGenerationEngine, folder: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(folder)
    for answer in run(engine, [ask(prompt, 60) for prompt in PROMPTS]):
        assert answer.text == tokenizer.decode(answer.ids, skip_special_tokens=True)


def test_sampled_tokens_are_those_of_generate_under_the_same_seed(
    llama: TextGenerationEngine, llama_folder: Path
) -> None:
    options: dict[str, Any] = {
        "temperature": 0.8,
        "top_k": 20,
        "top_p": 0.9,
        "repetition_penalty": 1.3,
    }
    # `generate` draws from torch's global generator, which starts from the same seed here.
    torch.manual_seed(7)
    expected = reference(llama_folder, "the cat", do_sample=True, **options)
    sampling = SamplingParams(do_sample=True, seed=7, **options)
    answer = run(llama, [ask("the cat", sampling=sampling)])[0]
    assert answer.ids == expected
    assert answer.start is not None
    assert answer.start.seed == 7


def test_same_seed_gives_the_same_text_alone_and_in_a_crowd(llama: TextGenerationEngine) -> None:
    request = ask("the cat", sampling=SamplingParams(do_sample=True, seed=3, temperature=1.2))
    others = [ask(text, sampling=SamplingParams(do_sample=True)) for text in PROMPTS[:5]]
    alone = run(llama, [request])[0]
    crowd = run(llama, [*others, request, *others])[5]
    assert crowd.ids == alone.ids
    different = ask("the cat", sampling=SamplingParams(do_sample=True, seed=4, temperature=1.2))
    assert run(llama, [different])[0].ids != alone.ids


def test_generation_config_is_honoured(llama_folder: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(llama_folder, tmp_path / "model")
    plain = reference(llama_folder, "the cat")
    config = json.loads((folder / "generation_config.json").read_text())
    config |= {
        "eos_token_id": [2, plain[5]],
        "min_new_tokens": 9,
        "suppress_tokens": [plain[1]],
        "repetition_penalty": 1.2,
    }
    (folder / "generation_config.json").write_text(json.dumps(config))
    expected = reference(folder, "the cat", 30)
    assert expected != reference(llama_folder, "the cat", 30)
    assert run(load_text_generation(folder), [ask("the cat", 30)])[0].ids == expected


def test_end_of_sequence_token_ends_it(llama_folder: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(llama_folder, tmp_path / "model")
    ids = reference(llama_folder, "hello world")
    eos = ids[6]
    config = json.loads((folder / "generation_config.json").read_text()) | {"eos_token_id": eos}
    (folder / "generation_config.json").write_text(json.dumps(config))
    answer = run(load_text_generation(folder), [ask("hello world")])[0]
    assert answer.ids == ids[: ids.index(eos) + 1]
    assert answer.finish == Finish(FinishReason.EOS_TOKEN, len(answer.ids))


@pytest.mark.parametrize("keep", [True, False])
def test_stop_string_is_found_across_and_inside_tokens(
    llama: TextGenerationEngine, *, keep: bool
) -> None:
    whole = run(llama, [ask("the cat")])[0]
    pieces = [generated.piece for generated in whole.tokens]
    borders = [len("".join(pieces[:n])) for n in range(1, len(pieces))]
    # Begin one character before a token border and end one after it.
    border = next(b for b in borders if b > 3 and whole.text[b - 2 : b + 2].isascii())
    stop = whole.text[border - 1 : border + 1]
    end = whole.text.index(stop) + (len(stop) if keep else 0)
    answer = run(llama, [ask("the cat", stop=("never seen", stop), keep_stop=keep)])[0]
    assert answer.text == whole.text[:end]
    assert answer.finish is not None
    assert answer.finish.reason is FinishReason.STOP_SEQUENCE
    assert len(answer.tokens) < len(whole.tokens)


def test_cancelled_sequence_gives_its_memory_back(llama: TextGenerationEngine) -> None:
    llama.add(1, ask("the cat", 100))
    llama.add(2, ask("hello", 5))
    llama.step()
    llama.step()
    reserved = llama.budget.num_allocated
    assert reserved > 100
    llama.cancel(1)
    assert [output.request_id for output in llama.step()] == [2]
    assert llama.budget.num_allocated < reserved - 99
    llama.cancel(2)
    llama.cancel(77)
    assert llama.step() == []
    assert not llama.has_work()
    assert llama.budget.num_allocated == 0


def test_cancelled_while_waiting_never_starts(llama: TextGenerationEngine) -> None:
    llama.add(1, ask("the cat"))
    llama.cancel(1)
    assert llama.step() == []
    assert not llama.has_work()


def test_lower_priority_number_goes_first(llama: TextGenerationEngine) -> None:
    llama.add(1, ask("the cat", 2, priority=5))
    llama.add(2, ask("the cat", 2, priority=0))
    assert [output.request_id for output in llama.step()] == [2]
    while llama.has_work():
        llama.step()


def test_too_many_waiting_is_overloaded(
    llama: TextGenerationEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(waiting_queue, "MAX_WAITING", 1)
    llama.add(1, ask("the cat", 1))
    with pytest.raises(RequestRefused, match="Model is overloaded") as refused:
        llama.add(2, ask("the cat", 1))
    assert refused.value.kind is RefusalKind.OVERLOADED
    llama.step()
    assert not llama.has_work()


def test_a_full_queue_keeps_out_only_who_would_go_last(
    llama: TextGenerationEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(waiting_queue, "MAX_WAITING", 1)
    llama.add(1, ask("the cat", 1, priority=2))
    llama.add(2, ask("the cat", 1, priority=1))
    for priority in (1, 2):
        with pytest.raises(RequestRefused, match="Model is overloaded"):
            llama.add(3, ask("the cat", 1, priority=priority))
    assert [output.request_id for _ in range(2) for output in llama.step()] == [2, 1]
    assert not llama.has_work()


def test_prompt_longer_than_the_context_is_refused(llama: TextGenerationEngine) -> None:
    with pytest.raises(RequestRefused) as refused:
        llama.add(1, ask("x " * 127, 20))
    assert refused.value.message == (
        "Input validation error: `inputs` tokens + `max_new_tokens` must be <= 128. "
        "Given: 255 `inputs` tokens and 20 `max_new_tokens`"
    )
    with pytest.raises(RequestRefused) as refused:
        llama.add(1, ask("x " * 64, 20, fit_to_context=True))
    assert refused.value.message == (
        "Input validation error: `inputs` must have less than 127 tokens. Given: 129"
    )
    assert not llama.has_work()


def test_default_length_is_fitted_to_the_context(llama: TextGenerationEngine) -> None:
    answer = run(llama, [ask("x " * 62, 20, fit_to_context=True)])[0]
    assert answer.start is not None
    assert answer.start.num_prompt_tokens == 125
    assert len(answer.ids) == 3


def test_truncate_keeps_the_last_tokens(llama: TextGenerationEngine) -> None:
    request = GenerationRequest(prompt=TextPrompt("x " * 100, truncate=10))
    start = run(llama, [request])[0].start
    assert start is not None
    assert start.num_prompt_tokens == 10


def test_text_that_cannot_fit_is_not_even_read(
    llama: TextGenerationEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    longest = 128 * MAX_CHARACTERS_PER_TOKEN
    read: list[int] = []
    tokenizer_class = type(llama._tokenizer)
    original = tokenizer_class.__call__

    def counting(self: Any, text: str, **options: Any) -> Any:
        read.append(len(text))
        return original(self, text, **options)

    monkeypatch.setattr(tokenizer_class, "__call__", counting)
    with pytest.raises(RequestRefused) as refused:
        llama.add(1, ask("x" * (longest + 1), 20))
    assert refused.value.message.endswith("must have less than 127 tokens. Given: at least 128")
    assert read == []
    llama.add(1, GenerationRequest(prompt=TextPrompt("x " * longest, truncate=10)))
    assert read == [10 * MAX_CHARACTERS_PER_TOKEN]
    monkeypatch.undo()
    llama.cancel(1)
    llama.step()


def test_details_hold_log_probabilities(llama: TextGenerationEngine) -> None:
    answer = run(llama, [ask("the cat", 4, num_top_tokens=3, prompt_details=True)])[0]
    assert answer.start is not None
    prompt = answer.start.prompt_tokens
    assert [token.text for token in prompt][:2] == ["<s>", "the"]
    assert prompt[0].special
    assert prompt[0].logprob is None
    assert all(token.logprob is not None and token.logprob < 0 for token in prompt[1:])
    for generated in answer.tokens:
        assert generated.top[0] == generated.token  # greedy: the chosen one is the likeliest
        assert len(generated.top) == 3
        assert sum(math.exp(token.logprob or 0) for token in generated.top) <= 1


def test_penalties_change_the_answer(llama: TextGenerationEngine) -> None:
    plain = run(llama, [ask("the the the", 40)])[0].ids
    penalised = run(
        llama, [ask("the the the", 40, sampling=SamplingParams(frequency_penalty=2.0))]
    )[0].ids
    first_repeat = next(n for n in range(40) if plain[n] in plain[:n])
    assert penalised[:first_repeat] == plain[:first_repeat]
    assert len(set(penalised)) > len(set(plain))


def test_chat_goes_through_the_models_template(llama: TextGenerationEngine) -> None:
    chat = ChatPrompt(messages=({"role": "user", "content": "hello"},))
    answer = run(llama, [GenerationRequest(prompt=chat, prompt_details=True)])[0]
    assert answer.start is not None
    rendered = "".join(token.text for token in answer.start.prompt_tokens)
    assert rendered == "<s>user: hello</s><s>assistant:"


def test_template_that_raises_is_a_clean_refusal(llama: TextGenerationEngine) -> None:
    messages = ({"role": "user", "content": "a"}, {"role": "system", "content": "b"})
    with pytest.raises(RequestRefused) as refused:
        llama.add(1, GenerationRequest(prompt=ChatPrompt(messages=messages)))
    assert refused.value.kind is RefusalKind.TEMPLATE
    assert refused.value.message == "Template error: the system message comes first"


def test_model_without_template_refuses_chat(gpt2_folder: Path) -> None:
    chat = ChatPrompt(messages=({"role": "user", "content": "hello"},))
    with pytest.raises(RequestRefused, match="Template error: template not found"):
        load_text_generation(gpt2_folder).add(1, GenerationRequest(prompt=chat))


def test_broken_numbers_fail_one_sequence_only(llama_folder: Path) -> None:
    model, tokenizer = load_language_model(llama_folder)
    with torch.no_grad():
        model.get_input_embeddings().weight[tokenizer("x").input_ids[-1]] = float("nan")
    engine = TextGenerationEngine(model, tokenizer)
    engine.add(1, ask("the cat", 5))
    engine.add(2, ask("x", 5, sampling=SamplingParams(do_sample=True)))
    failures, finished = [], []
    while engine.has_work():
        for output in engine.step():
            failures += [output.request_id] if output.failure else []
            finished += [output.request_id] if output.finish else []
    assert failures == [2]
    assert finished == [1]
    assert engine.budget.num_allocated == 0


def test_description_says_what_the_model_is(llama: TextGenerationEngine) -> None:
    description = llama.describe()
    assert description.architecture == "LlamaForCausalLM"
    assert description.context_length == 128
    assert description.has_chat_template
    assert description.eos_token_ids == (2,)
    assert description.dtype == "bfloat16"
    assert llama.memory_bytes() > description.num_parameters


def test_folders_that_cannot_be_loaded_say_why(llama_folder: Path, tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(ModelNotLoadable, match=r"no `config\.json`"):
        load_text_generation(empty)
    truncated = shutil.copytree(llama_folder, tmp_path / "truncated")
    weights = truncated / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1000])
    with pytest.raises(ModelNotLoadable) as refused:
        load_text_generation(truncated)
    assert str(tmp_path) not in refused.value.message
    unknown = shutil.copytree(llama_folder, tmp_path / "unknown")
    config = json.loads((unknown / "config.json").read_text()) | {"model_type": "nonesuch"}
    (unknown / "config.json").write_text(json.dumps(config))
    with pytest.raises(ModelNotLoadable, match="nonesuch"):
        load_text_generation(unknown)


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("config.json", b"{", "`config.json` is not JSON."),
        ("config.json", b"[" * 100_000, "`config.json` is not JSON."),
        ("config.json", b"\xff", "`config.json` is not JSON."),
        ("tokenizer_config.json", b"", "`tokenizer_config.json` is not JSON."),
        ("tokenizer_config.json", b"[1]", "`tokenizer_config.json` is not a JSON object."),
        ("tokenizer.json", b'"a"', "`tokenizer.json` is not a JSON object."),
        ("tokenizer.json", b"[" * 100_000, "`tokenizer.json` is not JSON."),
        ("generation_config.json", b"[1]", "`generation_config.json` is not a JSON object."),
    ],
)
def test_files_that_are_no_json_objects_are_named(
    llama_folder: Path, tmp_path: Path, name: str, content: bytes, says: str
) -> None:
    folder = shutil.copytree(llama_folder, tmp_path / "model")
    (folder / name).write_bytes(content)
    with pytest.raises(ModelNotLoadable) as refused:
        load_text_generation(folder)
    assert refused.value.message == says


@pytest.mark.parametrize(
    ("name", "changes", "says"),
    [
        ("config.json", {"hidden_size": "abc"}, "`hidden_size` in `config.json` has a value"),
        ("config.json", {"hidden_size": 65}, "not a multiple of the number of attention heads"),
        ("config.json", {"num_attention_heads": 0}, "failed with ZeroDivisionError."),
        ("config.json", {"hidden_act": "nope"}, "failed with KeyError."),
        ("config.json", {"dtype": "float99"}, "failed with AttributeError."),
        ("config.json", {"vocab_size": 10}, "The shapes of the weights are not those"),
        ("tokenizer_config.json", {"eos_token": 5}, "failed with TypeError."),
        ("tokenizer_config.json", {"added_tokens_decoder": [1]}, "failed with AttributeError."),
        ("tokenizer.json", {"model": 5}, "`tokenizer.json` cannot be read: "),
    ],
)
def test_values_that_cannot_be_tell_nothing_of_the_insides(
    llama_folder: Path, tmp_path: Path, name: str, changes: dict[str, Any], says: str
) -> None:
    folder = shutil.copytree(llama_folder, tmp_path / "model")
    content = json.loads((folder / name).read_text()) | changes
    (folder / name).write_text(json.dumps(content))
    with pytest.raises(ModelNotLoadable) as refused:
        load_text_generation(folder)
    message = refused.value.message
    assert says in message
    assert not re.search("object has no|<class| 0x|module '|" + re.escape(str(tmp_path)), message)


def test_models_without_attention_are_refused_in_words(llama_folder: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(llama_folder, tmp_path / "model")
    vocab_size = json.loads((folder / "config.json").read_text())["vocab_size"]
    config = MambaConfig(vocab_size=vocab_size, hidden_size=16, num_hidden_layers=1, state_size=4)
    MambaForCausalLM(config).save_pretrained(folder)
    with pytest.raises(ModelNotLoadable, match="without attention"):
        load_text_generation(folder)


def test_kernels_from_elsewhere_are_refused(llama_folder: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(llama_folder, tmp_path / "model")
    config = json.loads((folder / "config.json").read_text())
    config["_attn_implementation"] = "somebody/kernels"
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(ModelNotLoadable, match="another repository"):
        load_text_generation(folder)


def test_bias_moves_single_tokens(llama: TextGenerationEngine) -> None:
    plain = run(llama, [ask("the cat", 8)])[0].ids
    biased = SamplingParams(logit_bias=((plain[0], -1000.0), (50, 0.0)))
    ids = run(llama, [ask("the cat", 8, sampling=biased)])[0].ids
    assert plain[0] not in ids
    assert (
        run(llama, [ask("the cat", 8, sampling=SamplingParams(logit_bias=((50, 0.0),)))])[0].ids
        == plain
    )
    forced = SamplingParams(do_sample=True, logit_bias=((60, 1000.0),), top_k=3)
    assert run(llama, [ask("the cat", 4, sampling=forced)])[0].ids == [60] * 4


@pytest.mark.parametrize("bias", [(10**6, 1.0), (-1, 1.0), (5, math.nan), (5, math.inf)])
def test_bias_on_what_is_not_there_is_refused(
    llama: TextGenerationEngine, bias: tuple[int, float]
) -> None:
    with pytest.raises(RequestRefused, match="`logit_bias`"):
        llama.add(1, ask("x", sampling=SamplingParams(logit_bias=(bias,))))


def test_names_of_special_tokens_are_shown_on_request(llama: TextGenerationEngine) -> None:
    bias = SamplingParams(logit_bias=((1, 1000.0),))
    hidden, shown = run(
        llama,
        [ask("the cat", 3, sampling=bias, show_special=shows) for shows in (False, True)],
    )
    assert hidden.ids == shown.ids == [1, 1, 1]
    assert hidden.text == ""
    assert shown.text == "<s><s><s>"
    end = SamplingParams(logit_bias=((2, 1000.0),))
    (answer,) = run(llama, [ask("the cat", 3, sampling=end, show_special=True)])
    assert answer.text == ""
    assert answer.tokens[0].token.text == "</s>"


def test_prompt_is_scored_without_generating(llama: TextGenerationEngine) -> None:
    prompt = TokensPrompt((1, 70, 80, 90))
    details: dict[str, Any] = {"prompt_details": True, "num_top_tokens": 2}
    none, one = run(
        llama,
        [GenerationRequest(prompt, max_new_tokens=count, **details) for count in (0, 1)],
    )
    assert none.tokens == []
    assert none.finish == Finish(FinishReason.LENGTH, 0)
    assert none.start is not None
    assert one.start is not None
    assert none.start.prompt_tokens == one.start.prompt_tokens
    assert [token.id for token in none.start.prompt_tokens] == [1, 70, 80, 90]
    assert none.start.prompt_top[0] == ()
    for token, top in zip(none.start.prompt_tokens[1:], none.start.prompt_top[1:], strict=True):
        assert len(top) == 2
        assert top[0].logprob is not None
        assert token.logprob is not None
        assert top[0].logprob >= token.logprob
    assert len(one.tokens) == 1
    whole = GenerationRequest(TokensPrompt((5,) * 128), max_new_tokens=0, prompt_details=True)
    assert run(llama, [whole])[0].finish == Finish(FinishReason.LENGTH, 0)
    with pytest.raises(RequestRefused, match="`max_new_tokens` must be strictly positive"):
        llama.add(1, GenerationRequest(prompt, max_new_tokens=0))
    with pytest.raises(RequestRefused, match="Given: 129 `inputs` tokens"):
        llama.add(
            1, GenerationRequest(TokensPrompt((5,) * 129), max_new_tokens=0, prompt_details=True)
        )


def test_gap_is_filled_until_its_end(llama_folder: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(llama_folder, tmp_path / "model")
    tokenizer = make_tokenizer(adds_bos=True)
    tokenizer.add_tokens([AddedToken(f"<{name}>") for name in ("PRE", "SUF", "MID", "EOT")])
    tokenizer.chat_template = CHAT_TEMPLATE
    tokenizer.save_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder)
    torch.manual_seed(1)
    model.resize_token_embeddings(len(tokenizer))
    model.save_pretrained(folder)
    engine = load_text_generation(folder)
    assert engine.describe().can_infill
    end = tokenizer.convert_tokens_to_ids("<EOT>")
    ends = SamplingParams(logit_bias=((end, 1000.0),))
    gap = GenerationRequest(InfillPrompt("the cat", "the mat"), max_new_tokens=5, sampling=ends)
    by_hand = ask("<PRE> the cat <SUF>the mat <MID>", 5, sampling=ends)
    plain = ask("the cat", 5, sampling=ends)
    filled, typed, other = run(engine, [gap, by_hand, plain])
    assert filled.text == ""
    assert filled.finish == Finish(FinishReason.EOS_TOKEN, 1)
    assert typed.text == "<EOT>"
    assert typed.finish == Finish(FinishReason.EOS_TOKEN, 1)
    assert other.ids == [end] * 5  # nothing was to be filled in


def test_model_without_a_format_refuses_gaps(llama: TextGenerationEngine) -> None:
    assert not llama.describe().can_infill
    with pytest.raises(RequestRefused, match="fill in the middle"):
        llama.add(1, GenerationRequest(InfillPrompt("a", "b")))


def test_chat_traits_are_described(llama: TextGenerationEngine, gpt2_folder: Path) -> None:
    assert llama.describe().chat == ChatTraits()
    assert load_text_generation(gpt2_folder).describe().chat is None

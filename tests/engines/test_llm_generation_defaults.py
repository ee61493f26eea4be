"""A folder's `generation_config.json`, against how `transformers` reads it."""

import json
from pathlib import Path
from typing import Any

import pytest
from transformers import GenerationConfig

from gatehouse.engines.base import ModelNotLoadable
from gatehouse.engines.llm.generation_defaults import (
    GenerationDefaults,
    SamplingRuleUnsupported,
    load_generation_defaults,
)

SIZE = 1000


def load(folder: Path, own: Any = None, config: Any = None) -> GenerationDefaults:
    (folder / "config.json").write_text(json.dumps(config or {}))
    if own is not None:
        (folder / "generation_config.json").write_text(json.dumps(own))
    return load_generation_defaults(folder, SIZE)


def test_without_a_word_the_defaults_are_those_of_generate(tmp_path: Path) -> None:
    defaults = load(tmp_path, {})
    assert defaults == GenerationDefaults(SIZE)
    theirs = GenerationConfig._get_default_generation_params()
    for name in ("temperature", "top_k", "top_p", "typical_p", "epsilon_cutoff", "eta_cutoff"):
        assert getattr(defaults, name) == theirs[name]
    assert defaults.repetition_penalty == theirs["repetition_penalty"]
    assert defaults.min_length == theirs["min_length"]


def test_what_the_file_says_is_read(tmp_path: Path) -> None:
    own = {
        "_from_model_config": True,
        "bos_token_id": 1,
        "pad_token_id": 0,
        "eos_token_id": [2, 32000, 2],
        "do_sample": True,
        "max_length": 4096,
        "temperature": 0.6,
        "top_k": 20,
        "top_p": 1,
        "min_p": 0.02,
        "typical_p": 0.95,
        "epsilon_cutoff": 0.001,
        "eta_cutoff": 0.002,
        "repetition_penalty": 1.05,
        "min_length": 4,
        "min_new_tokens": 3,
        "bad_words_ids": [[2], [5], [6, 7]],
        "suppress_tokens": [1, -1, 5000],
        "begin_suppress_tokens": [9],
        "forced_eos_token_id": 2,
        "num_beams": 4,
        "guidance_scale": 1.5,
        "no_repeat_ngram_size": 0,
        "remove_invalid_values": False,
        "transformers_version": "4.51.0",
    }
    assert load(tmp_path, own) == GenerationDefaults(
        vocabulary_size=SIZE,
        eos_token_ids=(2, 32000),
        temperature=0.6,
        top_k=20,
        top_p=1.0,
        min_p=0.02,
        typical_p=0.95,
        epsilon_cutoff=0.001,
        eta_cutoff=0.002,
        repetition_penalty=1.05,
        min_length=4,
        min_new_tokens=3,
        bad_words=((5,), (6, 7)),
        suppressed_ids=(1,),
        begin_suppressed_ids=(9,),
        forced_end_ids=(2,),
    )


def test_null_is_as_if_it_were_not_there(tmp_path: Path) -> None:
    own = dict.fromkeys(("temperature", "top_k", "eos_token_id", "bad_words_ids", "top_h"))
    assert load(tmp_path, own) == GenerationDefaults(SIZE)


def test_no_limit_may_be_written_as_other_servers_do(tmp_path: Path) -> None:
    assert load(tmp_path, {"top_k": -1}).top_k == 0
    assert load(tmp_path, {"temperature": 0}).temperature == 0


@pytest.mark.parametrize(
    "config",
    [
        {"eos_token_id": 7, "top_k": 3},
        {"eos_token_id": [7, 8], "temperature": None},
        {"text_config": {"eos_token_id": 7, "top_p": 0.5}, "eos_token_id": None},
        {"text_config": {"eos_token_id": 7}, "eos_token_id": 9},
        {"decoder": {"eos_token_id": 7}, "text_config": {"eos_token_id": 8}},
        {"vocab_size": 4},
    ],
)
def test_without_the_file_the_models_own_config_is_read(
    tmp_path: Path, config: dict[str, Any]
) -> None:
    defaults = load(tmp_path, None, config)
    theirs = GenerationConfig.from_pretrained(
        tmp_path, config_file_name="config.json", _from_model_config=True
    )
    eos = theirs.eos_token_id
    assert defaults.eos_token_ids == tuple(
        [] if eos is None else eos if isinstance(eos, list) else [eos]
    )
    assert defaults.top_k == (theirs.top_k or 50)
    assert defaults.top_p == (theirs.top_p or 1.0)


@pytest.mark.parametrize(
    ("rule", "value"),
    [
        ("no_repeat_ngram_size", 3),
        ("encoder_repetition_penalty", 1.2),
        ("encoder_no_repeat_ngram_size", 2),
        ("sequence_bias", [[[1, 2], -1.0]]),
        ("exponential_decay_length_penalty", [4, 1.1]),
        ("remove_invalid_values", True),
        ("forced_bos_token_id", 0),
        ("top_h", 0.4),
        ("watermarking_config", {"bias": 2.0}),
        ("token_healing", True),
        ("constraints", [1]),
        ("force_words_ids", [[1]]),
    ],
)
def test_a_rule_that_is_not_known_here_is_left_to_another_engine(
    tmp_path: Path, rule: str, value: Any
) -> None:
    with pytest.raises(SamplingRuleUnsupported, match=rule) as raised:
        load(tmp_path, {rule: value})
    assert raised.value.rule == rule


# Of beams, lengths, caches, assistants, outputs, special tokens and versions: nothing that a row of
# logits is changed by. The engine on top of `transformers` leaves the guidance scale out too.
NO_RULES = {
    "_from_model_config",
    "assistant_confidence_threshold",
    "assistant_early_exit",
    "assistant_ensemble_weight",
    "assistant_lookbehind",
    "bos_token_id",
    "cache_config",
    "cache_implementation",
    "compile_config",
    "continuous_batching_config",
    "decoder_start_token_id",
    "disable_compile",
    "diversity_penalty",
    "do_sample",
    "dola_layers",
    "early_stopping",
    "guidance_scale",
    "is_assistant",
    "length_penalty",
    "low_memory",
    "max_cache_len",
    "max_length",
    "max_matching_ngram_size",
    "max_new_tokens",
    "max_time",
    "num_assistant_tokens",
    "num_assistant_tokens_schedule",
    "num_beam_groups",
    "num_beams",
    "num_return_sequences",
    "output_attentions",
    "output_hidden_states",
    "output_logits",
    "output_scores",
    "pad_token_id",
    "penalty_alpha",
    "prefill_chunk_size",
    "prompt_lookup_num_tokens",
    "renormalize_logits",
    "return_dict_in_generate",
    "speculation_type",
    "stop_strings",
    "target_lookbehind",
    "transformers_version",
    "use_cache",
    "use_mtp",
}


def test_every_option_of_transformers_is_read_or_refused_or_no_rule(tmp_path: Path) -> None:
    """It may learn a rule that this engine would pass over in silence."""
    for name in set(GenerationConfig().to_dict()) - NO_RULES:
        with pytest.raises(ModelNotLoadable):
            load(tmp_path, {name: {"no such": "value"}})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("temperature", -0.1),
        ("temperature", "hot"),
        ("temperature", float("nan")),
        ("temperature", float("inf")),
        ("temperature", True),
        ("top_k", 1.5),
        ("top_k", -2),
        ("top_k", 10**400),
        ("top_p", 1.01),
        ("top_p", []),
        ("min_p", -1),
        ("typical_p", 2),
        ("epsilon_cutoff", "x"),
        ("repetition_penalty", 0),
        ("repetition_penalty", -1.0),
        ("min_length", -1),
        ("min_new_tokens", "3"),
        ("eos_token_id", -1),
        ("eos_token_id", "</s>"),
        ("eos_token_id", [[2]]),
        ("eos_token_id", 2**31),
        ("eos_token_id", list(range(257))),
        ("bad_words_ids", [[]]),
        ("bad_words_ids", [5]),
        ("bad_words_ids", {"a": 1}),
        ("bad_words_ids", [[SIZE]]),
        ("bad_words_ids", [[1] * 257]),
        ("suppress_tokens", "all"),
        ("forced_eos_token_id", SIZE),
    ],
)
def test_nonsense_is_told_in_a_sentence_that_names_it(
    tmp_path: Path, name: str, value: Any
) -> None:
    with pytest.raises(ModelNotLoadable, match=f"^`{name}` in the generation config must be "):
        load(tmp_path, {name: value})


@pytest.mark.parametrize("content", [b"", b"[]", b"{", b"\xff", b"[" * 100_000, b"1" * 5000])
def test_a_file_that_is_no_object_is_told(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "generation_config.json").write_bytes(content)
    with pytest.raises(ModelNotLoadable, match=r"^`generation_config.json` is not "):
        load_generation_defaults(tmp_path, SIZE)


def test_a_file_that_is_too_large_is_not_read(tmp_path: Path) -> None:
    with (tmp_path / "generation_config.json").open("wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(ModelNotLoadable, match="is too large"):
        load_generation_defaults(tmp_path, SIZE)


def test_a_folder_without_any_config_is_told(tmp_path: Path) -> None:
    with pytest.raises(ModelNotLoadable, match=r"no `config.json`"):
        load_generation_defaults(tmp_path, SIZE)

"""A Llama of 0.3 MB whose weights were written, not learned: it says what is in `_TEXTS`.

The output layer maps each token of a text to the next one; the one attention head looks for a word
in the conversation that decides how an answer begins. Every other token ends the answer, or closes
what a grammar has open, so that whatever a grammar allows is short.
"""

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file

# What follows what. A token stands in one text only, as the next one depends on it alone.
_COUNTING = ["One", " two", " three", " four", " five", " six", " seven", " eight", " nine"]
_ANSWER = ["The", " sky", " is", " blue", "."]
_RESULT = ["It", " rains", " in", " Rome", "!"]
_CALL = [
    "<tool_call>",
    '\n{"name": "',
    "get_weather",
    '", "arguments": {"',
    "city",
    '": "',
    "Paris",
    '"}}',
    "\n</tool_call>",
]
_MIDDLE = ["<|fim_middle|>", " return", " a", " +", " b"]
_END = "<|end|>"
_ASSISTANT = "<|assistant|>"
_ASKS_FOR_TOOL = "forecast"
_HAS_RESULT = "<tool_response>"
_SPECIAL = [
    "<|pad|>",
    _END,
    "<|system|>",
    "<|user|>",
    _ASSISTANT,
    "<|fim_prefix|>",
    "<|fim_suffix|>",
    "<|fim_middle|>",
]
_TAGS = ["<tool_call>", "</tool_call>", _HAS_RESULT, "</tool_response>", "<tools>", "</tools>"]
# How much each is liked after tokens that stand in no text.
_LIKED = {_END: 0.6, '"': 0.5, "}": 0.45, "]": 0.4, ",": 0.35, "6": 0.25}

COUNTED = "".join(_COUNTING[1:])
ANSWER = "".join(_ANSWER)
RESULT = "".join(_RESULT)
MIDDLE = "".join(_MIDDLE[1:])
CONTEXT_LENGTH = 2048

_HEAD_DIM = 16
_CONSTANT, _FOUND, _TOOL_KEY, _RESULT_KEY, _FIRST_FREE = range(5)
_HIDDEN_SIZE = 64

_TEMPLATE = """\
{%- if tools -%}
<|system|>You may call functions. Their signatures:
<tools>
{%- for tool in tools %}
{{ tool | tojson }}
{%- endfor %}
</tools>
For each call answer with a JSON object within <tool_call></tool_call> tags:
<tool_call>
{"name": <function-name>, "arguments": <args-json-object>}
</tool_call><|end|>
{%- endif -%}
{%- for message in messages -%}
{%- if message.role == 'tool' -%}
<|user|><tool_response>
{{ message.content }}
</tool_response><|end|>
{%- elif message.tool_calls -%}
<|assistant|>{{ message.content or '' }}
{%- for call in message.tool_calls -%}
<tool_call>
{"name": "{{ call.function.name }}", "arguments": {{ call.function.arguments | tojson }}}
</tool_call>
{%- endfor -%}
<|end|>
{%- else -%}
<|{{ message.role }}|>{{ message.content }}<|end|>
{%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}<|assistant|>{%- endif -%}
"""


def save_written_model(folder: Path, task: str = "text-generation") -> Path:
    """Write a model folder as `transformers` reads it, and return it; `task` stands in its card."""
    folder.mkdir(parents=True, exist_ok=True)
    vocabulary = _vocabulary()
    (folder / "tokenizer.json").write_text(json.dumps(_tokenizer(vocabulary)))
    (folder / "chat_template.jinja").write_text(_TEMPLATE)
    for name, content in _configs(vocabulary).items():
        (folder / name).write_text(json.dumps(content))
    save_file(_weights(vocabulary), folder / "model.safetensors", {"format": "pt"})
    (folder / "README.md").write_text(f"---\npipeline_tag: {task}\n---\n# Written model\n")
    return folder


def _vocabulary() -> dict[str, int]:
    """Ids of tokens; texts, not the letters that byte-level tokenizers write for bytes."""
    names = [*_SPECIAL, *_TAGS, *_byte_letters().values()]
    for text in (_COUNTING, _ANSWER, _RESULT, _CALL, _MIDDLE, [_ASKS_FOR_TOOL]):
        names += [_spelled(word) for word in text if word not in (*_SPECIAL, *_TAGS)]
        names += [_spelled(f" {word}") for word in text if word == _ASKS_FOR_TOOL]
    return {name: place for place, name in enumerate(dict.fromkeys(names))}


def _byte_letters() -> dict[int, str]:
    """The printable letter that stands for each byte in a byte-level vocabulary, as in GPT-2's."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in printable]
    letters = {byte: chr(byte) for byte in printable}
    return letters | {byte: chr(256 + place) for place, byte in enumerate(others)}


def _spelled(text: str) -> str:
    letters = _byte_letters()
    return "".join(letters[byte] for byte in text.encode())


def _id(vocabulary: dict[str, int], word: str) -> int:
    return vocabulary[word if word in (*_SPECIAL, *_TAGS) else _spelled(word)]


def _tokenizer(vocabulary: dict[str, int]) -> dict[str, Any]:
    added = [
        {
            "id": vocabulary[name],
            "content": name,
            "single_word": False,
            "lstrip": False,
            "rstrip": False,
            "normalized": False,
            "special": name in _SPECIAL,
        }
        for name in (*_SPECIAL, *_TAGS)
    ]
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True}
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": added,
        "normalizer": None,
        "pre_tokenizer": byte_level | {"use_regex": True},
        "post_processor": None,
        "decoder": byte_level | {"use_regex": True},
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": False,
            "byte_fallback": False,
            # Whole words are tokens without merges that would lead to them.
            "ignore_merges": True,
            "vocab": vocabulary,
            "merges": [],
        },
    }


def _configs(vocabulary: dict[str, int]) -> dict[str, dict[str, Any]]:
    ends = {"eos_token_id": vocabulary[_END], "pad_token_id": vocabulary["<|pad|>"]}
    config = {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "dtype": "float32",
        "vocab_size": len(vocabulary),
        "hidden_size": _HIDDEN_SIZE,
        "intermediate_size": 8,
        "num_hidden_layers": 1,
        "num_attention_heads": 1,
        "num_key_value_heads": 1,
        "head_dim": _HEAD_DIM,
        "hidden_act": "silu",
        "max_position_embeddings": CONTEXT_LENGTH,
        "rms_norm_eps": 1e-6,
        # So large that the last pair of dimensions is hardly turned by the position.
        "rope_parameters": {"rope_type": "default", "rope_theta": 1e10},
        "tie_word_embeddings": False,
    }
    tokenizer = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "eos_token": _END,
        "pad_token": "<|pad|>",
        "model_max_length": CONTEXT_LENGTH,
        "clean_up_tokenization_spaces": False,
    }
    return {
        "config.json": config | ends,
        "generation_config.json": ends,
        "tokenizer_config.json": tokenizer,
    }


def _weights(vocabulary: dict[str, int]) -> dict[str, Any]:
    embedding = np.zeros((len(vocabulary), _HIDDEN_SIZE), np.float32)
    output = np.zeros((len(vocabulary), _HIDDEN_SIZE), np.float32)
    embedding[:, _CONSTANT] = 1
    for word, liking in _LIKED.items():
        output[_id(vocabulary, word), _CONSTANT] = liking
    followers = _followers()
    for dimension, (word, follower) in enumerate(followers.items(), _FIRST_FREE):
        embedding[_id(vocabulary, word), dimension] = 1
        output[_id(vocabulary, follower), dimension] += 3
    # A word that was found outweighs how an answer begins otherwise, and nothing else.
    beginning = _FIRST_FREE + list(followers).index(_ASSISTANT)
    for first, sign in (("<tool_call>", 1), (_RESULT[0], -1)):
        output[_id(vocabulary, first), beginning] += 2.5
        output[_id(vocabulary, first), _FOUND] += sign
    for word in (_ASKS_FOR_TOOL, f" {_ASKS_FOR_TOOL}"):
        embedding[_id(vocabulary, word), _TOOL_KEY] = 1
    embedding[_id(vocabulary, _HAS_RESULT), _RESULT_KEY] = 1
    layer = "model.layers.0"
    return {
        "model.embed_tokens.weight": embedding,
        "lm_head.weight": output,
        "model.norm.weight": np.ones(_HIDDEN_SIZE, np.float32),
        f"{layer}.input_layernorm.weight": np.ones(_HIDDEN_SIZE, np.float32),
        f"{layer}.post_attention_layernorm.weight": np.ones(_HIDDEN_SIZE, np.float32),
        f"{layer}.mlp.gate_proj.weight": np.zeros((8, _HIDDEN_SIZE), np.float32),
        f"{layer}.mlp.up_proj.weight": np.zeros((8, _HIDDEN_SIZE), np.float32),
        f"{layer}.mlp.down_proj.weight": np.zeros((_HIDDEN_SIZE, 8), np.float32),
        **{f"{layer}.self_attn.{name}": weight for name, weight in _attention().items()},
    }


def _followers() -> dict[str, str]:
    """The next word of each word that has one."""
    texts = [
        [_ASSISTANT, *_ANSWER, _END],
        [*_RESULT, _END],
        [*_COUNTING, _END],
        [*_CALL, _END],
        [*_MIDDLE, _END],
    ]
    return {word: follower for text in texts for word, follower in pairwise(text)}


def _attention() -> dict[str, Any]:
    """Every token looks for the word that asks for a tool, and for its result even more."""
    query = np.zeros((_HEAD_DIM, _HIDDEN_SIZE), np.float32)
    key = np.zeros((_HEAD_DIM, _HIDDEN_SIZE), np.float32)
    value = np.zeros((_HEAD_DIM, _HIDDEN_SIZE), np.float32)
    result = np.zeros((_HIDDEN_SIZE, _HEAD_DIM), np.float32)
    place = _HEAD_DIM // 2 - 1
    query[place, _CONSTANT] = 2
    key[place, _TOOL_KEY] = 2
    key[place, _RESULT_KEY] = 4
    value[0, _TOOL_KEY] = 1
    value[0, _RESULT_KEY] = -1
    result[_FOUND, 0] = 0.2
    return {
        "q_proj.weight": query,
        "k_proj.weight": key,
        "v_proj.weight": value,
        "o_proj.weight": result,
    }

"""What every engine reads of a model's folder: its configuration and its tokenizer, no code."""

import re
from pathlib import Path
from typing import Any

from huggingface_hub.errors import (
    StrictDataclassClassValidationError,
    StrictDataclassFieldValidationError,
)
from safetensors import SafetensorError
from transformers import AutoTokenizer

from gatehouse.engines.base import ModelNotLoadable
from gatehouse.engines.text.harmless import harmless_reason
from gatehouse.engines.text.json_files import json_object

_JSON_OBJECTS = (
    "tokenizer_config.json",
    "tokenizer.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "generation_config.json",
)
# Of a large vocabulary with its merges.
_MAX_TOKENIZER_BYTES = 256 << 20
# What libraries raise with a sentence for people; the rest are Python's own, about their insides.
_WORDED = (ValueError, OSError, ImportError, SafetensorError)


def checked_config(folder: Path) -> dict[str, Any]:
    """`config.json`.

    Raises:
        ModelNotLoadable: There is none, or it wants code from elsewhere.
    """
    config = json_object(folder / "config.json")
    for name in ("attn_implementation", "_attn_implementation", "experts_implementation"):
        # `owner/name` would make transformers fetch compiled kernels from a hub.
        if "/" in str(config.get(name) or ""):
            raise ModelNotLoadable(
                f"`{name}` in `config.json` asks for code from another repository."
            )
    return config


def load_tokenizer(folder: Path) -> Any:
    """The tokenizer of `transformers`.

    Raises:
        ModelNotLoadable: Missing or damaged files.
    """
    try:
        tokenizer = AutoTokenizer.from_pretrained(
            folder, local_files_only=True, trust_remote_code=False
        )
    # The library raises whatever it meets in a damaged file; the sentence goes to the caller.
    except Exception as error:
        raise ModelNotLoadable(reason_not_loadable(error, folder)) from error
    # CodeLlama's splits texts at this name, and changes itself to do so: two threads must not.
    if getattr(tokenizer, "fill_token", None) is not None:
        tokenizer.fill_token = None
    return tokenizer


def reason_not_loadable(error: Exception, folder: Path) -> str:
    """Why the folder cannot be loaded, with nothing of this machine in it."""
    try:
        for name in _JSON_OBJECTS:
            if (folder / name).exists():
                json_object(folder / name, _MAX_TOKENIZER_BYTES)
    except ModelNotLoadable as broken:
        return broken.message
    field = re.search(r"field '(\w+)'", str(error))
    if field and isinstance(error, StrictDataclassFieldValidationError):
        return f"`{field[1]}` in `config.json` has a value that it cannot have."
    if isinstance(error, StrictDataclassClassValidationError):
        error = error.__cause__ if isinstance(error.__cause__, Exception) else error
    text = " ".join(str(error).split()).replace(str(folder), "the repository")
    if "mismatch" in text and isinstance(error, RuntimeError):
        return "The shapes of the weights are not those that `config.json` tells."
    # `tokenizers` raises plain `Exception`s, about places in `tokenizer.json`.
    if type(error) is Exception:
        return f"`tokenizer.json` cannot be read: {harmless_reason(text)}"
    if isinstance(error, _WORDED) and text:
        return harmless_reason(text)
    return (
        "A value in `config.json` or in the tokenizer's files cannot be used: reading them failed "
        f"with {type(error).__name__}."
    )

"""A folder to a model and its tokenizer, by `transformers`, running no code from the folder."""

from pathlib import Path
from typing import Any

import torch
from transformers import (
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForSeq2SeqLM,
    AutoModelForTextEncoding,
)
from transformers.models.auto.modeling_auto import (
    MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES,
)
from transformers.utils import logging

from gatehouse.engines.base import ModelNotLoadable
from gatehouse.engines.pipelines.encoder_decoder_sizes import check_start_token
from gatehouse.engines.text.model_folder import (
    checked_config,
    load_tokenizer,
    reason_not_loadable,
)

_DEFAULT_CONTEXT_LENGTH = 2048
_LONGEST_BELIEVED_CONTEXT = 16_777_216
_MAX_EOS_TOKENS = 256
# Their first position comes after that of padding.
_COUNT_FROM_PADDING = frozenset(
    {"camembert", "data2vec-text", "ibert", "longformer", "mpnet", "roberta", "xlm-roberta"}
)


def load_language_model(folder: Path) -> tuple[Any, Any]:
    """A model that writes text (in the precision it is stored in) and its tokenizer.

    Causal, or with an encoder for the prompt: `model.config.is_encoder_decoder` tells.

    Raises:
        ModelNotLoadable: Missing or damaged files, an architecture that is not known, or missing
            weights.
    """
    config = checked_config(folder)
    has_encoder = bool(config.get("is_encoder_decoder"))
    if has_encoder and config.get("model_type") not in MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES:
        raise ModelNotLoadable("The encoder of this model does not read text.")
    kind = AutoModelForSeq2SeqLM if has_encoder else AutoModelForCausalLM
    model, tokenizer = _load(folder, kind, "auto")
    _check_eos_tokens(model.generation_config.eos_token_id)
    if has_encoder:
        check_start_token(model, num_logits(model))
    _set_single_sequence_defaults(model)
    return model.eval(), tokenizer


def load_encoder(folder: Path) -> tuple[Any, Any]:
    """A model without its head, in float32, and its tokenizer.

    Raises:
        ModelNotLoadable: As `load_language_model`.
    """
    has_decoder = checked_config(folder).get("is_encoder_decoder")
    kind = AutoModelForTextEncoding if has_decoder else AutoModel
    model, tokenizer = _load(folder, kind, torch.float32)
    return model.eval(), tokenizer


def _load(folder: Path, kind: Any, dtype: Any) -> tuple[Any, Any]:
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    tokenizer = load_tokenizer(folder)
    try:
        model, report = kind.from_pretrained(
            folder,
            dtype=dtype,
            local_files_only=True,
            trust_remote_code=False,
            use_safetensors=True,
            output_loading_info=True,
        )
    # The libraries raise whatever they meet in a damaged file (SafetensorError is a plain
    # Exception); this is the edge to foreign files, and the sentence goes to the caller.
    except Exception as error:
        raise ModelNotLoadable(reason_not_loadable(error, folder)) from error
    # What BERT learned its next sentence with is often left out, and not used here.
    missing = sorted(key for key in report["missing_keys"] if not key.startswith("pooler."))
    if missing:
        names = ", ".join(missing[:3])
        raise ModelNotLoadable(f"The weights lack {len(missing)} tensors: {names}.")
    return _placed(model), tokenizer


def described_device(model: Any) -> str:
    """`gpu` or `cpu`."""
    return "gpu" if model.device.type == "cuda" else "cpu"


def _placed(model: Any) -> Any:
    """The model where it is computed: on the first GPU that torch can use, else on the CPU."""
    if not torch.cuda.is_available():
        return model
    try:
        return model.to("cuda")
    except torch.OutOfMemoryError as error:
        raise ModelNotLoadable("The GPU has too little memory left for this model.") from error


def context_length(model: Any, tokenizer: Any) -> int:
    """Positions that the model was made for, else what the tokenizer says."""
    limits = (
        getattr(model.config.get_text_config(), "max_position_embeddings", None),
        tokenizer.model_max_length,
    )
    for limit in limits:
        if isinstance(limit, int) and 0 < limit <= _LONGEST_BELIEVED_CONTEXT:
            return limit
    return _DEFAULT_CONTEXT_LENGTH


def encoder_context_length(model: Any, tokenizer: Any, max_tokens: int | None) -> int:
    """The smallest of what the positions, the tokenizer and the folder's own limit allow."""
    config = model.config.get_text_config()
    positions = getattr(config, "max_position_embeddings", None)
    if positions and config.model_type in _COUNT_FROM_PADDING:
        positions -= (config.pad_token_id or 0) + 1
    limits = (positions, tokenizer.model_max_length, max_tokens)
    known = [
        limit
        for limit in limits
        if isinstance(limit, int) and 0 < limit <= _LONGEST_BELIEVED_CONTEXT
    ]
    return min(known, default=_DEFAULT_CONTEXT_LENGTH)


def num_logits(model: Any) -> int:
    """Tokens that the model can choose from: the vocabulary, often padded."""
    head = model.get_output_embeddings()
    size = getattr(head, "out_features", None)
    return int(size or model.config.get_text_config().vocab_size)


def cache_bytes_per_token(model: Any) -> int:
    """Size of one token's keys and values over all layers, in bytes.

    Raises:
        ModelNotLoadable: The model keeps none, but a state of another kind.
    """
    config = model.config.get_text_config()
    if getattr(config, "num_attention_heads", None) is None:
        raise ModelNotLoadable("Models without attention, such as Mamba, are not run here.")
    heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    head_size = (
        getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    )
    return int(2 * config.num_hidden_layers * heads * head_size * model.dtype.itemsize)


def _check_eos_tokens(value: Any) -> None:
    ids = value if isinstance(value, list) else [] if value is None else [value]
    is_sound = len(ids) <= _MAX_EOS_TOKENS and all(
        isinstance(token_id, int) and 0 <= token_id < 2**31 for token_id in ids
    )
    if not is_sound:
        raise ModelNotLoadable(
            f"`eos_token_id` must be a token id, or a list of at most {_MAX_EOS_TOKENS}."
        )


def _set_single_sequence_defaults(model: Any) -> None:
    """Leave out of the model's generation defaults what our loop does not do."""
    defaults = model.generation_config
    defaults.num_beams = 1
    defaults.num_return_sequences = 1
    # Of beams alone, and `generate` warns of them without.
    for name in (
        "early_stopping",
        "length_penalty",
        "num_beam_groups",
        "diversity_penalty",
        "constraints",
        "force_words_ids",
    ):
        if hasattr(defaults, name):
            setattr(defaults, name, None)
    for name in ("guidance_scale", "max_time", "stop_strings", "cache_implementation"):
        setattr(defaults, name, None)
    for name in (
        "prompt_lookup_num_tokens",
        "assistant_early_exit",
        "penalty_alpha",
        "dola_layers",
    ):
        if hasattr(defaults, name):
            setattr(defaults, name, None)

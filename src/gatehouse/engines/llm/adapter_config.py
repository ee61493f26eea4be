"""Reads the `adapter_config.json` of a low-rank adapter (LoRA, arXiv:2106.09685) in PEFT's format.

The format: https://huggingface.co/docs/peft/developer_guides/checkpoint. What would change the
model in another way than by a product of two matrices is refused: it would be left out in silence.
"""

import math
import re
from typing import Annotated, Any

import msgspec

from gatehouse.core.errors import GatehouseError

MAX_RANK = 256
MAX_CONFIG_BYTES = 2**20
_MAX_PATTERNS = 10_000
# What PEFT's keys of patterns are unless somebody wrote a regular expression.
_PLAIN_KEY = re.compile(r"\^?[\w.]{1,512}", re.ASCII)
# Ways to begin training that leave the base as it is; the others take something out of it.
_HARMLESS_BEGINNINGS = (None, True, False, "gaussian", "eva", "orthogonal")

_Number = Annotated[float, msgspec.Meta(ge=-1e6, le=1e6)]


class AdapterInvalid(GatehouseError):
    """The adapter cannot be run, or not with this model; the message is for the caller."""


class AdapterConfig(msgspec.Struct, frozen=True):
    """What of the file matters to whoever runs the adapter; the names are PEFT's.

    Attributes:
        r: The rank, where the tensors do not say another one.
        lora_alpha: The product of the matrices is multiplied by this over the rank.
        alpha_pattern: Another `lora_alpha` for modules whose path ends so.
        use_rslora: Over the root of the rank instead (arXiv:2312.03732).
    """

    peft_type: str
    r: Annotated[int, msgspec.Meta(ge=1, le=MAX_RANK)] = 8
    lora_alpha: _Number = 8.0
    alpha_pattern: dict[str, _Number] | None = None
    use_rslora: bool = False
    use_dora: bool = False
    bias: str = "none"
    lora_bias: bool = False
    modules_to_save: list[Any] | None = None
    init_lora_weights: bool | str | None = True
    layer_replication: list[Any] | None = None
    target_parameters: list[Any] | None = None
    trainable_token_indices: list[Any] | dict[str, Any] | None = None
    alora_invocation_tokens: list[Any] | None = None
    use_qalora: bool = False

    def scale(self, module: str, rank: int) -> float:
        """What the product of the two matrices of a module is multiplied by."""
        alpha = self.lora_alpha
        for key, value in (self.alpha_pattern or {}).items():
            if _names(key, module):
                alpha = value
                break
        return alpha / (math.sqrt(rank) if self.use_rslora else rank)


_decode = msgspec.json.Decoder(AdapterConfig).decode


def parse_adapter_config(data: bytes) -> AdapterConfig:
    """The configuration of an adapter that can be run here.

    Raises:
        AdapterInvalid: It is another kind of adapter, or no such file at all.
    """
    if len(data) > MAX_CONFIG_BYTES:
        raise AdapterInvalid("`adapter_config.json` is too large.")
    try:
        config = _decode(data)
    except msgspec.ValidationError as error:
        raise AdapterInvalid(f"`adapter_config.json` is not one of PEFT's: {error}.") from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise AdapterInvalid("`adapter_config.json` is no JSON.") from error
    reason = _unsupported(config)
    if reason is not None:
        raise AdapterInvalid(f"The adapter {reason}, which is not supported here.")
    return config


def _unsupported(config: AdapterConfig) -> str | None:
    """What the adapter does that is not done here."""
    patterns = config.alpha_pattern or {}
    reasons = {
        "is not of the type LORA": config.peft_type.upper() != "LORA",
        "scales its matrices by columns (`use_dora`)": config.use_dora,
        "has biases (`bias`)": config.bias != "none" or config.lora_bias,
        "has whole modules (`modules_to_save`)": bool(config.modules_to_save),
        "repeats layers (`layer_replication`)": bool(config.layer_replication),
        "changes single parameters (`target_parameters`)": bool(config.target_parameters),
        "has embeddings (`trainable_token_indices`)": bool(config.trainable_token_indices),
        "waits for tokens (`alora_invocation_tokens`)": bool(config.alora_invocation_tokens),
        "pools its inputs (`use_qalora`)": config.use_qalora,
        "was made for a changed base (`init_lora_weights`)": (
            config.init_lora_weights not in _HARMLESS_BEGINNINGS
        ),
        "has regular expressions (`alpha_pattern`)": (
            len(patterns) > _MAX_PATTERNS or not all(map(_PLAIN_KEY.fullmatch, patterns))
        ),
    }
    return next((reason for reason, is_so in reasons.items() if is_so), None)


def _names(key: str, module: str) -> bool:
    """Whether a pattern's key is the end of a module's path, or after `^` the whole of it."""
    if key.startswith("^"):
        return module == key[1:]
    return module == key or module.endswith(f".{key}")

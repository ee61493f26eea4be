"""A folder to an engine that runs its graph here, or the reason why another has to."""

import math
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from gatehouse.engines.base import EngineOptions, Precision, Speculation
from gatehouse.engines.llm.config import DecoderConfig, architecture_of, read_config
from gatehouse.engines.llm.engine import BatchedTextGeneration
from gatehouse.engines.llm.families import family_of
from gatehouse.engines.llm.generation_defaults import load_generation_defaults
from gatehouse.engines.llm.openvino_runner import ComputeType, RunnerOptions, load_runner
from gatehouse.engines.llm.scheduler import SchedulerLimits
from gatehouse.engines.llm.speculation import PromptLookup
from gatehouse.engines.llm.weights import Checkpoint
from gatehouse.engines.text.cache_bounds import CACHE_BYTES
from gatehouse.engines.text.model_folder import checked_config, load_tokenizer
from gatehouse.engines.text.model_text import ModelFacts

# Of all adapters at hand together: eight of a rank of 32.
ADAPTER_RANK = 256
_DTYPES = {"F32": "float32", "F16": "float16", "BF16": "bfloat16"}
# Blocks that are rounded away, and the runner's own.
_SPARE_TOKENS = 128


def load_batched_text_generation(
    folder: Path, options: EngineOptions, num_threads: int
) -> BatchedTextGeneration:
    """An engine for the decoder in `folder`. Weights that are stored in float32 are run exactly.

    Raises:
        ArchitectureUnknown: Nothing is wrong with the model, but it has no graph here.
        SamplingRuleUnsupported: As before, for its generation config.
        ModelNotLoadable: With a sentence that says why.
    """
    # First of all: only of the families known here can be said what a configuration should be.
    family_of(architecture_of(checked_config(folder)))
    config = read_config(folder)
    checkpoint = Checkpoint(folder)
    defaults = load_generation_defaults(folder, config.vocabulary_size)
    stored = _stored_dtype(checkpoint)
    is_exact = options.precision is Precision.EXACT or stored == "float32"
    limits = SchedulerLimits()
    compute_type = ComputeType.FLOAT32 if is_exact else ComputeType.BFLOAT16
    cache_bytes = _cache_bytes(config, limits.max_sequences, 4 if is_exact else 2)
    # Neither keeps the other from computing: OpenVINO compiles outside the interpreter.
    with ThreadPoolExecutor(1, "tokenizer") as beside:
        loading_tokenizer = beside.submit(load_tokenizer, folder)
        runner = load_runner(
            folder,
            RunnerOptions(
                compute_type,
                num_threads,
                cache_bytes,
                weight_format=options.weight_format,
                adapter_rank=ADAPTER_RANK if options.takes_adapters else 0,
                copies_folder=Path(options.copies_folder) if options.copies_folder else None,
            ),
        )
    tokenizer = loading_tokenizer.result()
    facts = ModelFacts(
        engine="openvino",
        architecture=config.architecture,
        context_length=min(config.context_length, runner.num_blocks * runner.block_size),
        dtype="float32" if is_exact else stored,
        num_parameters=sum(math.prod(tensor.shape) for tensor in checkpoint.values()),
    )
    proposer = PromptLookup() if options.speculation is Speculation.PROMPT_LOOKUP else None
    return BatchedTextGeneration(runner, tokenizer, defaults, facts, limits, proposer)


def _cache_bytes(config: DecoderConfig, max_sequences: int, number_bytes: int) -> int:
    """One context at least, `CACHE_BYTES` if that is more, but not more than can be used."""
    heads = config.num_key_value_heads * len(config.layers)
    token_bytes = 2 * heads * config.head_dim * number_bytes
    longest = config.context_length
    num_tokens = min(max(longest, CACHE_BYTES // token_bytes), max_sequences * longest)
    return (num_tokens + _SPARE_TOKENS) * token_bytes


def _stored_dtype(checkpoint: Checkpoint) -> str:
    """What most of the weights are stored in."""
    sizes: Counter[str] = Counter()
    for tensor in checkpoint.values():
        sizes[tensor.dtype] += tensor.num_bytes
    return _DTYPES[sizes.most_common(1)[0][0]] if sizes else "bfloat16"

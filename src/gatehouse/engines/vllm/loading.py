"""A folder to an engine that has vLLM run it, or the reason why another engine has to."""

import math
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

from gatehouse.engines.base import (
    EngineOptions,
    ModelNotLoadable,
    Precision,
    RunnerUnsuited,
    WeightFormat,
)
from gatehouse.engines.llm.generation_defaults import GenerationDefaults, load_generation_defaults
from gatehouse.engines.llm.weights import Checkpoint
from gatehouse.engines.text.model_folder import checked_config, load_tokenizer
from gatehouse.engines.text.model_text import ModelFacts
from gatehouse.engines.vllm.client import StreamClient
from gatehouse.engines.vllm.engine import VllmTextGeneration
from gatehouse.engines.vllm.process import VllmProcess
from gatehouse.engines.vllm.program import COMPLETIONS, ServeOptions, VllmProgram, has_cuda

_CPU_CACHE_BYTES = 2**30
# A GPU is there for many at once.
_GPU_CACHE_BYTES = 8 * 2**30
_DTYPES = {"F32": "float32", "F16": "float16", "BF16": "bfloat16"}
_ON_CUDA = "device_config=cuda"


class WeightsKept(RunnerUnsuited):
    def __init__(self) -> None:
        super().__init__("vLLM is only given weights as they are stored: `--weights stored`.")


def load_vllm_text_generation(
    folder: Path,
    options: EngineOptions,
    num_threads: int,
    program: VllmProgram,
    environment: Mapping[str, str],
) -> VllmTextGeneration:
    """An engine for the causal model in `folder`. Starting vLLM takes half a minute or more.

    Raises:
        RunnerUnsuited: Nothing may be wrong with the model, but vLLM does not run it.
        ModelNotLoadable: With a sentence that says why.
    """
    if options.weight_format is not WeightFormat.STORED:
        raise WeightsKept
    config = checked_config(folder)
    checkpoint = Checkpoint(folder)
    text_config = config.get("text_config")
    vocabulary_size = (text_config if isinstance(text_config, dict) else config).get("vocab_size")
    if not isinstance(vocabulary_size, int) or not 0 < vocabulary_size < 2**31:
        raise ModelNotLoadable("`vocab_size` in `config.json` must be a number of tokens.")
    defaults = load_generation_defaults(folder, vocabulary_size)
    refuse_unknown_defaults(defaults)
    tokenizer = load_tokenizer(folder)
    is_exact = options.precision is Precision.EXACT
    dtype = "float32" if is_exact else _stored_dtype(checkpoint)
    on_gpu = has_cuda()
    serve = ServeOptions(
        dtype, _GPU_CACHE_BYTES if on_gpu else _CPU_CACHE_BYTES, num_threads, is_eager=not on_gpu
    )
    process = VllmProcess(program, folder, serve, environment)
    try:
        context_length = process.wait_until_ready()
    except BaseException:
        process.close()
        raise
    facts = ModelFacts(
        engine="vllm",
        architecture=str((config.get("architectures") or ["unknown"])[0]),
        context_length=context_length,
        dtype=dtype,
        num_parameters=sum(math.prod(tensor.shape) for tensor in checkpoint.values()),
        device="gpu" if process.says(_ON_CUDA) else "cpu",
    )
    client = StreamClient(process.socket_path, COMPLETIONS)
    return VllmTextGeneration(process, client, tokenizer, defaults, facts)


def refuse_unknown_defaults(defaults: GenerationDefaults) -> None:
    """Raises `RunnerUnsuited` for what a model wants and vLLM does not have."""
    unknown = {
        "bad_words_ids": defaults.bad_words,
        "begin_suppress_tokens": defaults.begin_suppressed_ids,
        "epsilon_cutoff": defaults.epsilon_cutoff,
        "eta_cutoff": defaults.eta_cutoff,
        "forced_eos_token_id": defaults.forced_end_ids,
        "suppress_tokens": defaults.suppressed_ids,
        "typical_p": defaults.typical_p < 1,
    }
    for name, value in unknown.items():
        if value:
            raise RunnerUnsuited(f"`{name}` in the generation config is not known to vLLM.")


def _stored_dtype(checkpoint: Checkpoint) -> str:
    """What most of the weights are stored in."""
    sizes: Counter[str] = Counter()
    for tensor in checkpoint.values():
        sizes[tensor.dtype] += tensor.num_bytes
    return _DTYPES.get(sizes.most_common(1)[0][0], "auto") if sizes else "auto"

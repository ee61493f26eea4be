"""What an engine is: it runs one model from one folder, a step at a time.

Knows nothing of processes, sockets, repositories, plans or who is asking, and imports no torch: a
hub worker reads these shapes too. They travel as msgspec messages between processes of one version,
so they may change with any release.
"""

from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import Any, Protocol

import msgspec

from gatehouse.core.errors import GatehouseError


class FinishReason(StrEnum):
    """Why a sequence ended; the values are those of the text-generation surface."""

    LENGTH = "length"
    EOS_TOKEN = "eos_token"  # noqa: S105 - a reason, not a secret
    STOP_SEQUENCE = "stop_sequence"


class RefusalKind(StrEnum):
    """Why a request was not run to its end; the values are the wire's `error_type`."""

    VALIDATION = "validation"
    TEMPLATE = "template_error"
    OVERLOADED = "overloaded"
    GENERATION = "generation"


class RequestRefused(GatehouseError):
    """The engine will not run this request; the message is for the caller."""

    def __init__(self, kind: RefusalKind, message: str) -> None:
        super().__init__(message)
        self.kind = kind


class ModelNotLoadable(GatehouseError):
    """The folder holds no model that this engine can run; the message is for the caller."""


class RunnerUnsuited(ModelNotLoadable):
    """Nothing is wrong with the model, but this engine does not run it. Another one may."""


class TextPrompt(msgspec.Struct, frozen=True, tag="text"):
    """Plain text; the tokenizer adds the special tokens it always adds.

    Attributes:
        truncate: Keep only this many tokens, the last ones.
    """

    text: str
    truncate: int | None = None


class TokensPrompt(msgspec.Struct, frozen=True, tag="tokens"):
    """Token ids, run as they are."""

    ids: tuple[int, ...]


class InfillPrompt(msgspec.Struct, frozen=True, tag="infill"):
    """The text before and after a gap, put into the model's own fill-in-the-middle format."""

    prefix: str
    suffix: str


class ChatPrompt(msgspec.Struct, frozen=True, tag="chat"):
    """A conversation, rendered by the model's own chat template.

    Names of special tokens in what the messages say are read as plain text.

    Attributes:
        messages: As the template expects them: objects with `role` and `content`.
        tools: JSON schemas of functions, or None.
        continue_final_message: The last message is the beginning of the answer.
        template_arguments: Switches that the template knows, such as `enable_thinking`.
    """

    messages: tuple[dict[str, Any], ...]
    tools: tuple[dict[str, Any], ...] | None = None
    continue_final_message: bool = False
    template_arguments: dict[str, bool] = {}


class TaskPrompt(msgspec.Struct, frozen=True, tag="task"):
    """Text for a task by name, put to the model as its configuration says the task is put.

    Attributes:
        task: `summarization`, `translation`, or another name of the model's own.
        source_language: As the model calls it; None with `target_language`.
        cut_to_fit: Leave the end of the text off if the model cannot read so much.
    """

    text: str
    task: str
    source_language: str | None = None
    target_language: str | None = None
    cut_to_fit: bool = False


Prompt = TextPrompt | TokensPrompt | InfillPrompt | ChatPrompt | TaskPrompt


class GrammarKind(StrEnum):
    """The language that a grammar is written in."""

    JSON_OBJECT = "json_object"  # any JSON object; the text is empty
    JSON_SCHEMA = "json_schema"
    REGEX = "regex"
    LARK = "lark"


class Grammar(msgspec.Struct, frozen=True):
    """What the generated text must match from its first to its last character."""

    kind: GrammarKind
    text: str = ""


class SamplingParams(msgspec.Struct, frozen=True, omit_defaults=True):
    """How the next token is chosen. None means: what the model's `generation_config.json` says.

    `min_length` counts the prompt's tokens too, as in `generate`. `logit_bias` holds pairs of a
    token id and what is added to its logit.
    """

    do_sample: bool = False
    temperature: float | None = None
    top_k: int | None = None
    top_p: float | None = None
    typical_p: float | None = None
    min_p: float | None = None
    repetition_penalty: float | None = None
    frequency_penalty: float = 0.0
    presence_penalty: float = 0.0
    min_length: int | None = None
    logit_bias: tuple[tuple[int, float], ...] = ()
    seed: int | None = None


class AdapterFolder(msgspec.Struct, frozen=True):
    """An adapter of a model (LoRA), ready to be read.

    Attributes:
        key: Tells adapters apart: the same for the same files of the same repository.
        folder: Where its files lie.
    """

    key: str
    folder: str


class GenerationRequest(msgspec.Struct, frozen=True, omit_defaults=True):
    """One sequence to generate.

    Attributes:
        max_new_tokens: Upper bound of generated tokens; 0 with `prompt_details` scores the prompt.
        fit_to_context: Lower `max_new_tokens` to what the prompt leaves instead of refusing.
        whole_answer: Lower `max_new_tokens` to what the model's own generation defaults say.
        max_total_tokens: Bound of prompt and generated tokens together (the older `max_length`); of
            the decoder's tokens, if the model has an encoder.
        max_seconds: Stop, as if by length, once this much time has passed since the first step.
        stop: Texts that end the sequence.
        keep_stop: Whether the text that ended the sequence stays in the answer.
        with_logprobs: Report the log-probabilities of generated tokens. Otherwise an engine may
            leave them out, which saves some passes over the vocabulary for each token.
        num_top_tokens: How many of the likeliest tokens to report at each step, and at each token
            of the prompt under `prompt_details`.
        prompt_details: Report the prompt's tokens and their log-probabilities.
        grammar: What the generated text must match; None leaves it free.
        reuse_scope: What was computed of a prompt's beginning is used again by requests of the same
            scope only: others could tell from the time it takes what was asked before.
        show_special: Pieces hold the names of special tokens too, save those that end the sequence.
        priority: Waiting requests of a lower number go first.
        adapter: What is added to the model for this sequence; None for the model as it is.
    """

    prompt: Prompt
    sampling: SamplingParams = SamplingParams()
    max_new_tokens: int = 20
    fit_to_context: bool = False
    whole_answer: bool = False
    max_total_tokens: int | None = None
    max_seconds: float | None = None
    stop: tuple[str, ...] = ()
    keep_stop: bool = True
    with_logprobs: bool = True
    num_top_tokens: int = 0
    prompt_details: bool = False
    grammar: Grammar | None = None
    reuse_scope: str = ""
    show_special: bool = False
    priority: int = 0
    adapter: AdapterFolder | None = None


class ScoredToken(msgspec.Struct, frozen=True, array_like=True):
    """A token and its natural-log probability under the model, before any sampling rule.

    `logprob` is None for the first token of a prompt, and where it was not asked for.
    """

    id: int
    text: str
    logprob: float | None
    special: bool


class GeneratedToken(msgspec.Struct, frozen=True, array_like=True):
    """One generated token.

    Attributes:
        token: The token. The text of a special token is its own name, such as `</s>`.
        piece: Text of the continuation that this token released: empty while a character or a
            possible stop text is incomplete. All pieces joined are the continuation.
        top: The likeliest tokens of this step, best first.
    """

    token: ScoredToken
    piece: str
    top: tuple[ScoredToken, ...] = ()


class Start(msgspec.Struct, frozen=True, array_like=True):
    """Sent with a sequence's first token. `seed` is None for greedy decoding.

    `prompt_top` holds the likeliest tokens at each of `prompt_tokens`, best first, when both were
    asked for; the first has none.
    """

    num_prompt_tokens: int
    seed: int | None
    prompt_tokens: tuple[ScoredToken, ...]
    waited_seconds: float
    prompt_top: tuple[tuple[ScoredToken, ...], ...] = ()


class Finish(msgspec.Struct, frozen=True, array_like=True):
    """Sent with a sequence's last token."""

    reason: FinishReason
    num_generated_tokens: int


class Failure(msgspec.Struct, frozen=True, array_like=True):
    """A sequence that broke; no more is sent for it."""

    kind: RefusalKind
    message: str


class SequenceOutput(msgspec.Struct, frozen=True, array_like=True):
    """What one step gave for one sequence."""

    request_id: int
    tokens: tuple[GeneratedToken, ...] = ()
    start: Start | None = None
    finish: Finish | None = None
    failure: Failure | None = None

    @property
    def is_last(self) -> bool:
        return self.finish is not None or self.failure is not None


class PromptToken(msgspec.Struct, frozen=True, array_like=True):
    """A token of a prompt; `start` and `stop` are its place in the text, in characters."""

    id: int
    text: str
    start: int
    stop: int


class TokenizedPrompt(msgspec.Struct, frozen=True):
    """A prompt as the model would read it. `text` is what was tokenized: a rendered template."""

    tokens: tuple[PromptToken, ...]
    text: str


class ToolMarkup(StrEnum):
    """How a model writes the calls of tools that its template offers."""

    HERMES = "hermes"  # <tool_call>{"name": …, "arguments": …}</tool_call>
    LLAMA = "llama"  # {"name": …, "parameters": …} as the whole answer
    MISTRAL = "mistral"  # [TOOL_CALLS] [{"name": …, "arguments": …}]


class ChatTraits(msgspec.Struct, frozen=True):
    """What the chat template of a model tells about its answers.

    Attributes:
        tool_markup: None if the template does not know tools.
        reasoning_start: Text before the reasoning, such as `<think>`; None if there is none.
        reasoning_end: Text after it.
        opens_reasoning: The prompt itself ends with `reasoning_start`.
        binds_itself: Whatever runs the model keeps reasoning and calls apart on its own: a grammar
            holds for the answer alone, and one in Lark only says that a tool must be called.
    """

    tool_markup: ToolMarkup | None = None
    reasoning_start: str | None = None
    reasoning_end: str | None = None
    opens_reasoning: bool = False
    binds_itself: bool = False


class EmbeddingRequest(msgspec.Struct, frozen=True, omit_defaults=True):
    """Texts to turn into vectors, together.

    Attributes:
        texts: Each as text, or as token ids that are run as they are.
        normalize: Whether vectors have the length 1; None: as the model's own modules say.
        truncate: Cut what is longer than the context instead of refusing it.
        truncate_left: Cut the beginning, not the end.
        prompt_name: A prefix that the model's configuration names.
        priority: Waiting requests of a lower number go first.
    """

    texts: tuple[str | tuple[int, ...], ...]
    normalize: bool | None = None
    truncate: bool = False
    truncate_left: bool = False
    prompt_name: str | None = None
    priority: int = 0


class Embeddings(msgspec.Struct, frozen=True):
    """Vectors in the order of the texts.

    Attributes:
        vectors: Little-endian float32, all of one size.
        num_tokens: Of each text, as the model read it.
    """

    vectors: tuple[bytes, ...]
    num_tokens: tuple[int, ...]


class EmbeddingOutput(msgspec.Struct, frozen=True):
    """What came of an embedding request: one of the two."""

    request_id: int
    embeddings: Embeddings | None = None
    failure: Failure | None = None


class EmbeddingTraits(msgspec.Struct, frozen=True):
    """What a model's vectors are.

    Attributes:
        num_dimensions: Of a vector.
        is_sentence_model: Made with sentence-transformers: it has modules that say how to pool.
    """

    num_dimensions: int
    is_sentence_model: bool


class RunnerName(StrEnum):
    """What runs a model of text."""

    AUTO = "auto"  # the fastest that can run the model
    OPENVINO = "openvino"
    TRANSFORMERS = "transformers"
    VLLM = "vllm"  # a program of its own, which an administrator installs


class Precision(StrEnum):
    """What a model of text is computed in."""

    STORED = "stored"  # bfloat16 for weights that are stored in 16 bits, else float32
    EXACT = "exact"  # float32


class WeightFormat(StrEnum):
    """What the weights of linear layers are kept in while a model runs."""

    STORED = "stored"
    INT8 = "int8"  # one scale for each output
    INT4 = "int4"  # one scale for each group of inputs of an output


class Speculation(StrEnum):
    """How tokens are guessed, several of which are then computed at once."""

    OFF = "off"
    PROMPT_LOOKUP = "prompt-lookup"  # what followed the last tokens the time before


class EngineOptions(msgspec.Struct, frozen=True, omit_defaults=True):
    """How a model is to be run; what its engine does not know is left to others.

    Attributes:
        takes_adapters: Requests may name an `adapter`. A model that takes them is slower, and its
            answers may differ in the last bits from those of one that does not.
        copies_folder: Where an engine may keep what it makes of the weights, which is a cache; None
            if nowhere.
    """

    runner: RunnerName = RunnerName.AUTO
    precision: Precision = Precision.STORED
    weight_format: WeightFormat = WeightFormat.STORED
    takes_adapters: bool = False
    copies_folder: str | None = None
    speculation: Speculation = Speculation.OFF


class ModelDescription(msgspec.Struct, frozen=True):
    """What a loaded model is and can take.

    Attributes:
        context_length: Prompt and generated tokens together.
        encoder_length: Of an encoder-decoder model, the tokens of a prompt; what is left of
            `context_length` is its answer's. None for others.
        dtype: As stored, such as `bfloat16`.
        device: `cpu` or `gpu`.
        chat: None without a chat template.
        can_infill: Whether it takes an `InfillPrompt`.
        embeddings: None unless it takes an `EmbeddingRequest`.
    """

    engine: str
    architecture: str
    context_length: int
    has_chat_template: bool
    eos_token_ids: tuple[int, ...]
    dtype: str
    device: str
    num_parameters: int
    chat: ChatTraits | None = None
    can_infill: bool = False
    embeddings: EmbeddingTraits | None = None
    encoder_length: int | None = None

    @property
    def longest_prompt(self) -> int:
        """In tokens; leaves room for one more where the answer continues the prompt."""
        return self.context_length - 1 if self.encoder_length is None else self.encoder_length


class Engine(Protocol):
    """Runs requests through one model: those of one kind, refusing the other.

    `step` is called by one thread; `add` and `cancel` may be called by any other at any time.
    """

    def describe(self) -> ModelDescription: ...

    def add(self, request_id: int, request: GenerationRequest | EmbeddingRequest) -> None:
        """Read the prompt and queue the request. Takes as long as tokenizing does.

        Raises:
            RequestRefused: It does not fit this model, or too many are waiting.
        """
        ...

    def tokenize(self, prompt: Prompt) -> TokenizedPrompt:
        """Read a prompt without running it; may be called by any thread.

        Raises:
            RequestRefused: As in `add`.
        """
        ...

    def cancel(self, request_id: int) -> None:
        """Forget a request; its memory is free by the next step. Unknown ids are ignored."""
        ...

    def has_work(self) -> bool: ...

    def step(self) -> Sequence[SequenceOutput | EmbeddingOutput]:
        """Advance every running sequence by one token, or the next texts to their vectors."""
        ...

    def memory_bytes(self) -> int:
        """Weights and what running sequences hold, in bytes."""
        ...

    def unload(self) -> None:
        """Drop the model and every request. The engine cannot be used afterwards."""
        ...


class LoadEngine(Protocol):
    """How a kind of engine is made."""

    def __call__(self, folder: Path, options: EngineOptions, num_cores: int, /) -> Engine:
        """Load the model in `folder`, to be computed by as many threads as there are cores.

        Raises:
            ModelNotLoadable: With a sentence that says why.
        """
        ...

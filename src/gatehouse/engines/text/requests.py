"""Requests to sequences: the prompt read, the grammar compiled, everything checked.

Runs on the threads that read prompts; nothing here waits for a model.
"""

import math
import secrets
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from gatehouse.engines.base import GenerationRequest, Grammar, InfillPrompt, SamplingParams
from gatehouse.engines.grammars.compiler import GrammarCompiler
from gatehouse.engines.grammars.constraint import Constraint
from gatehouse.engines.grammars.texts import GrammarInvalid
from gatehouse.engines.grammars.vocabulary import grammar_vocabulary
from gatehouse.engines.text.detokenizer import Detokenizer
from gatehouse.engines.text.lengths import Lengths, SharedLength
from gatehouse.engines.text.prompts import PromptReader, refuse_invalid
from gatehouse.engines.text.sequence import Sequence
from gatehouse.engines.text.stop_strings import StopStrings
from gatehouse.engines.text.token_texts import TokenDecoder

MAX_PROMPT_DETAILS = 1024
_GRAMMAR_THREADS = 2


class RequestReader:
    """Makes sequences for one model.

    Args:
        tokenizer: Of `transformers`, shared by all threads.
        num_logits: Tokens that the model can choose from, padding included.
        eos_token_ids: Tokens that end a sequence.
        lengths: What a prompt leaves for the answer, if they do not share one context.
    """

    def __init__(
        self,
        tokenizer: Any,
        prompts: PromptReader,
        context_length: int,
        num_logits: int,
        eos_token_ids: tuple[int, ...],
        lengths: Lengths | None = None,
    ) -> None:
        self._tokenizer = tokenizer
        self._prompts = prompts
        self._lengths = lengths or SharedLength(context_length)
        self._num_logits = num_logits
        fallback = tokenizer.eos_token_id
        self._decode = TokenDecoder(tokenizer, skip_special_tokens=True)
        self._decode_all = TokenDecoder(tokenizer, skip_special_tokens=False)
        self._end_ids = eos_token_ids or (() if fallback is None else (int(fallback),))
        self._grammars = GrammarCompiler(self._vocabulary)
        self._grammar_threads = ThreadPoolExecutor(_GRAMMAR_THREADS, thread_name_prefix="grammars")

    def read(self, request_id: int, request: GenerationRequest) -> Sequence:
        """A sequence that is ready to wait for its turn.

        Raises:
            RequestRefused: Something about it does not fit this model.
        """
        ids = self._prompts.encode(request.prompt)
        max_new_tokens = self._lengths.allowed_new_tokens(request, len(ids))
        if request.prompt_details and len(ids) > MAX_PROMPT_DETAILS:
            raise refuse_invalid(
                f"`decoder_input_details` is not given for more than {MAX_PROMPT_DETAILS} tokens. "
                f"Given: {len(ids)}"
            )
        sampling = request.sampling
        self._check_bias(sampling)
        decode = self._decode_all if request.show_special else self._decode
        seed = sampling.seed if sampling.seed is not None else secrets.randbits(53)
        return Sequence(
            request_id=request_id,
            request=request,
            prompt_ids=ids,
            max_new_tokens=max_new_tokens,
            seed=seed if sampling.do_sample else None,
            text=Detokenizer(decode, ids if self._lengths.answer_continues else []),
            stop=StopStrings(request.stop, keep=request.keep_stop),
            queued_at=time.monotonic(),
            ends=self._more_ends(request, ids),
            constraint=self._constraint(request.grammar) if request.grammar else None,
        )

    def close(self) -> None:
        self._grammars.close()
        self._grammar_threads.shutdown(wait=False, cancel_futures=True)

    def _constraint(self, grammar: Grammar) -> Constraint:
        try:
            matcher = self._grammars.matcher(grammar)
        except GrammarInvalid as error:
            raise refuse_invalid(f"grammar is not valid: {error.message}") from error
        return Constraint(matcher, self._grammar_threads)

    def _more_ends(self, request: GenerationRequest, ids: list[int]) -> dict[int, str]:
        """Tokens that end this sequence besides the model's own: of the grammar or the format."""
        by_hand = not isinstance(request.prompt, InfillPrompt)
        ends = self._prompts.infilling.ends(ids, by_hand=by_hand)
        if request.grammar is not None:
            ends |= dict.fromkeys(self._end_ids, "")
        return ends

    def _vocabulary(self) -> Any:
        return grammar_vocabulary(self._tokenizer, self._num_logits, list(self._end_ids))

    def _check_bias(self, sampling: SamplingParams) -> None:
        for token_id, bias in sampling.logit_bias:
            if not 0 <= token_id < self._num_logits:
                raise refuse_invalid(
                    f"`logit_bias` token ids must be >= 0 and < {self._num_logits}. "
                    f"Given: {token_id}"
                )
            if not math.isfinite(bias):
                raise refuse_invalid("`logit_bias` must hold finite numbers")

"""Compiled grammars of one model: checked elsewhere first, kept while there is room."""

import hashlib
import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from llguidance import LLMatcher, LLTokenizer

from gatehouse.engines.base import Grammar
from gatehouse.engines.grammars.check_client import GrammarChecks
from gatehouse.engines.grammars.texts import (
    LIMITS,
    GrammarInvalid,
    GrammarNotChecked,
    compilable_text,
    compile_error,
)

MAX_COMPILED = 128
MAX_COMPILED_BYTES = 128 * 1024 * 1024
# A grammar that was refused is refused again without trying, so that repeating it costs nothing.
MAX_REFUSED = 256


@dataclass(frozen=True, slots=True)
class CompiledGrammar:
    """A matcher at the beginning of its text, never stepped itself; `num_bytes` is a guess."""

    matcher: LLMatcher
    num_bytes: int


class GrammarCompiler:
    """Gives a fresh matcher for each sequence; usable from any thread.

    Args:
        make_tokenizer: The vocabulary, made at the first grammar: that takes about a second for
            100,000 tokens. It may raise `GrammarInvalid`.
    """

    def __init__(self, make_tokenizer: Callable[[], LLTokenizer]) -> None:
        self._make_tokenizer = make_tokenizer
        self._tokenizer: LLTokenizer | None = None
        self._checks = GrammarChecks()
        self._lock = threading.Lock()
        self._compiling = threading.Lock()
        self._compiled: OrderedDict[bytes, CompiledGrammar] = OrderedDict()
        self._refused: OrderedDict[bytes, str] = OrderedDict()
        self.num_bytes = 0

    def matcher(self, grammar: Grammar) -> LLMatcher:
        """A matcher at the beginning of its text. Takes a while for a grammar that is new.

        Raises:
            GrammarInvalid: It cannot be used with this model, or at all.
        """
        key = _key(grammar)
        found = self._find(key)
        if found is None:
            with self._compiling:
                found = self._find(key) or self._make(key, grammar)
        return found.matcher.deep_copy()

    def close(self) -> None:
        self._checks.close()

    def _find(self, key: bytes) -> CompiledGrammar | None:
        with self._lock:
            if key in self._refused:
                raise GrammarInvalid(self._refused[key])
            if key in self._compiled:
                self._compiled.move_to_end(key)
            return self._compiled.get(key)

    def _make(self, key: bytes, grammar: Grammar) -> CompiledGrammar:
        try:
            compiled = self._compile(grammar)
        except GrammarNotChecked:
            raise
        except GrammarInvalid as refused:
            self._remember_refusal(key, refused.message)
            raise
        self._keep(key, compiled)
        return compiled

    def _compile(self, grammar: Grammar) -> CompiledGrammar:
        text = compilable_text(grammar)
        num_bytes = self._checks.check(text) + len(text)
        if self._tokenizer is None:
            self._tokenizer = self._make_tokenizer()
        matcher = LLMatcher(self._tokenizer, text, limits=LIMITS, log_level=0)
        if error := compile_error(matcher):
            raise GrammarInvalid(error)
        return CompiledGrammar(matcher, num_bytes)

    def _keep(self, key: bytes, compiled: CompiledGrammar) -> None:
        with self._lock:
            self._compiled[key] = compiled
            self.num_bytes += compiled.num_bytes
            while len(self._compiled) > MAX_COMPILED or self.num_bytes > MAX_COMPILED_BYTES:
                _, oldest = self._compiled.popitem(last=False)
                self.num_bytes -= oldest.num_bytes

    def _remember_refusal(self, key: bytes, sentence: str) -> None:
        with self._lock:
            self._refused[key] = sentence
            if len(self._refused) > MAX_REFUSED:
                self._refused.popitem(last=False)


def _key(grammar: Grammar) -> bytes:
    text = f"{grammar.kind}:{grammar.text}"
    return hashlib.sha256(text.encode(errors="surrogatepass")).digest()

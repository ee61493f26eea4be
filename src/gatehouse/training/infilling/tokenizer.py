"""The tokenizer of the fill-in-the-middle model, and its prompt format: Code Llama's.

The format is plain text, `<PRE> {prefix} <SUF>{suffix} <MID>`, so that people can write it by hand;
the answer ends with ` <EOT>`. Programs that put the marks' ids together leave the spaces out; both
ways are trained.
"""

from collections.abc import Iterable
from typing import Final

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

from gatehouse.training.batches import IGNORED, Example
from gatehouse.training.infilling.gaps import Gap

PAD: Final = "<pad>"
BOS: Final = "<s>"
EOS: Final = "</s>"
PREFIX: Final = "<PRE>"
SUFFIX: Final = "<SUF>"
MIDDLE: Final = "<MID>"
END: Final = "<EOT>"


def train_tokenizer(texts: Iterable[str], vocab_size: int, context: int) -> PreTrainedTokenizerFast:
    """Learn a byte-level vocabulary of `vocab_size`; digits stand alone, indentation is a token."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size - 1,
        special_tokens=[PAD, BOS, EOS, PREFIX, SUFFIX, MIDDLE],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    # Not special: the answer to a prompt that was written by hand shows it, as Code Llama's does.
    tokenizer.add_tokens([AddedToken(END, normalized=False)])
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{BOS} $A", special_tokens=[(BOS, tokenizer.token_to_id(BOS))]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=PAD,
        bos_token=BOS,
        eos_token=EOS,
        additional_special_tokens=[PREFIX, SUFFIX, MIDDLE],
        clean_up_tokenization_spaces=False,
        padding_side="left",
        model_max_length=context,
    )


def write_prompt(prefix: str, suffix: str) -> str:
    """The prompt that asks for what belongs between `prefix` and `suffix`."""
    return f"{PREFIX} {prefix} {SUFFIX}{suffix} {MIDDLE}"


def encode(tokenizer: PreTrainedTokenizerFast, gap: Gap, *, is_spaced: bool) -> Example:
    """Token ids of a prompt and its answer. Every token is a target: code is learned too."""
    prompt = write_prompt(gap.prefix, gap.suffix)
    end = f" {END}"
    if not is_spaced:
        prompt, end = f"{PREFIX}{gap.prefix}{SUFFIX}{gap.suffix}{MIDDLE}", END
    ids = tokenizer.encode(prompt)
    ids += tokenizer.encode(f"{gap.middle}{end}", add_special_tokens=False)
    return Example(ids, [IGNORED, *ids[1:]])


def read_answer(text: str) -> str:
    """The middle, from an answer that may end with the mark."""
    return text.removesuffix(END).removesuffix(" ") if text.endswith(END) else text

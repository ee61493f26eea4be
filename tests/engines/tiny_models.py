"""Tiny random checkpoints, made on the spot: a Llama shape and a GPT-2 shape with a byte-level BPE.

The weights are drawn wide, so that greedy decoding wanders instead of repeating one token.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
)

CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{% if message['role'] == 'system' and not loop.first %}"
    "{{ raise_exception('the system message comes first') }}{% endif %}"
    "<s>{{ message['role'] }}: {{ message['content'] }}</s>{% endfor %}"
    "{% if add_generation_prompt %}<s>assistant:{% endif %}"
)
CONTEXT_LENGTH = 128


def make_tokenizer(*, adds_bos: bool) -> Any:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=["<pad>", "<s>", "</s>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    text = "the cat sat on the mat while a dog ran over the hill and hello world came again"
    tokenizer.train_from_iterator([text] * 10, trainer)
    if adds_bos:
        tokenizer.post_processor = processors.TemplateProcessing(
            single="<s> $A", special_tokens=[("<s>", 1)]
        )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", pad_token="<pad>"
    )


def save_tiny_llama(
    folder: Path,
    *,
    chat: bool = True,
    template: str = CHAT_TEMPLATE,
    markers: Sequence[AddedToken] = (),
    context_length: int = CONTEXT_LENGTH,
    dtype: torch.dtype = torch.bfloat16,
) -> Path:
    """A Llama; `markers` become tokens of their own, special or not."""
    tokenizer = make_tokenizer(adds_bos=True)
    tokenizer.add_tokens(list(markers))
    if chat:
        tokenizer.chat_template = template
    torch.manual_seed(0)
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(tokenizer),
            hidden_size=64,
            intermediate_size=128,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=2,
            max_position_embeddings=context_length,
            bos_token_id=1,
            eos_token_id=2,
            pad_token_id=0,
            initializer_range=0.4,
        )
    )
    model.to(dtype).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def save_tiny_gpt2(folder: Path) -> Path:
    tokenizer = make_tokenizer(adds_bos=False)
    torch.manual_seed(1)
    model = GPT2LMHeadModel(
        GPT2Config(
            vocab_size=len(tokenizer),
            n_embd=48,
            n_layer=2,
            n_head=3,
            n_positions=CONTEXT_LENGTH,
            bos_token_id=1,
            eos_token_id=2,
            initializer_range=0.5,
        )
    )
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder

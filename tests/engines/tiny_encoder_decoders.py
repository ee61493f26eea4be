"""Tiny random models with an encoder: T5 with Unigram, BART with byte-level BPE, mBART.

Each with what is peculiar to its kind: T5's tasks by name and relative positions, BART's forced
first and last tokens and its rules for beams, mBART's tokens for languages.
"""

import json
from pathlib import Path
from typing import Any

import torch
from tiny_models import make_tokenizer
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from tokenizers.processors import TemplateProcessing
from transformers import (
    BartConfig,
    BartForConditionalGeneration,
    MarianConfig,
    MarianMTModel,
    MBartConfig,
    MBartForConditionalGeneration,
    MBartTokenizer,
    PreTrainedTokenizerFast,
    T5Config,
    T5ForConditionalGeneration,
)

BART_POSITIONS = 64
_TEXT = "the cat sat on the mat while a dog ran over the hill and hello world came again"


def make_unigram_tokenizer() -> Any:
    """As T5's: `</s>` behind every text and nothing in front."""
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.normalizer = normalizers.NFKC()
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    trainer = trainers.UnigramTrainer(
        vocab_size=120,
        special_tokens=["<pad>", "</s>", "<unk>"],
        unk_token="<unk>",
        initial_alphabet=list("abcdefghijklmnopqrstuvwxyz:."),
        show_progress=False,
    )
    tokenizer.train_from_iterator(
        [_TEXT, "summarize: translate English to German: é"] * 10, trainer
    )
    tokenizer.post_processor = TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token="</s>", unk_token="<unk>", pad_token="<pad>"
    )


def save_tiny_t5(folder: Path, *, initializer_factor: float = 3.0) -> Path:
    tokenizer = make_unigram_tokenizer()
    torch.manual_seed(3)
    model = T5ForConditionalGeneration(
        T5Config(
            vocab_size=len(tokenizer) + 5,  # padded, as T5's
            d_model=48,
            d_kv=8,
            d_ff=64,
            num_layers=3,
            num_decoder_layers=2,
            num_heads=4,
            decoder_start_token_id=0,
            pad_token_id=0,
            eos_token_id=1,
            feed_forward_proj="gated-gelu",
            tie_word_embeddings=False,
            initializer_factor=initializer_factor,
        )
    )
    # Its head is drawn narrow; wide enough, that greedy decoding wanders.
    with torch.no_grad():
        model.lm_head.weight.normal_(0, 1.0)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    _add_to_config(
        folder,
        task_specific_params={
            "summarization": {"prefix": "summarize: ", "max_length": 12, "no_repeat_ngram_size": 2},
            "translation_en_to_de": {"prefix": "translate English to German: ", "max_length": 9},
        },
    )
    return folder


def save_tiny_bart(folder: Path, dtype: torch.dtype = torch.float32) -> Path:
    tokenizer = make_tokenizer(adds_bos=True)
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 1), ("</s>", 2)]
    )
    torch.manual_seed(4)
    model = BartForConditionalGeneration(
        BartConfig(
            vocab_size=len(tokenizer),
            d_model=48,
            encoder_layers=2,
            decoder_layers=2,
            encoder_attention_heads=4,
            decoder_attention_heads=4,
            encoder_ffn_dim=64,
            decoder_ffn_dim=64,
            max_position_embeddings=BART_POSITIONS,
            pad_token_id=0,
            bos_token_id=1,
            eos_token_id=2,
            decoder_start_token_id=2,
            forced_eos_token_id=2,
            init_std=0.4,
        )
    )
    # As the summarizer's: rules of beams, and a length of its own.
    defaults = model.generation_config
    defaults.forced_bos_token_id = 1
    defaults.num_beams, defaults.early_stopping, defaults.length_penalty = 4, True, 2.0
    defaults.no_repeat_ngram_size = 3
    defaults.max_length, defaults.min_length = 30, 5
    model.to(dtype).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def save_tiny_mbart(folder: Path) -> Path:
    pieces = [(f"▁{word}", -3.0) for word in dict.fromkeys(_TEXT.split())]
    letters = [(letter, -9.0) for letter in "▁abcdefghijklmnopqrstuvwxyz"]
    codes = ["ar_AR", "cs_CZ", "de_DE", "en_XX", "fr_XX"]
    special = [(name, 0.0) for name in ("<s>", "<pad>", "</s>", "<unk>")]
    tokenizer = MBartTokenizer(
        vocab=[*special, *letters, *pieces, *((code, 0.0) for code in codes), ("<mask>", 0.0)],
        src_lang="en_XX",
    )
    torch.manual_seed(5)
    model = MBartForConditionalGeneration(
        MBartConfig(
            vocab_size=len(tokenizer),
            d_model=48,
            encoder_layers=1,
            decoder_layers=1,
            encoder_attention_heads=4,
            decoder_attention_heads=4,
            encoder_ffn_dim=64,
            decoder_ffn_dim=64,
            max_position_embeddings=BART_POSITIONS,
            pad_token_id=1,
            bos_token_id=0,
            eos_token_id=2,
            decoder_start_token_id=2,
            init_std=0.4,
        )
    )
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def save_tiny_marian(folder: Path) -> Path:
    """Starts from padding, which it is forbidden to say."""
    tokenizer = make_unigram_tokenizer()
    torch.manual_seed(6)
    model = MarianMTModel(
        MarianConfig(
            vocab_size=len(tokenizer),
            decoder_vocab_size=len(tokenizer),
            d_model=48,
            encoder_layers=1,
            decoder_layers=2,
            encoder_attention_heads=4,
            decoder_attention_heads=4,
            encoder_ffn_dim=64,
            decoder_ffn_dim=64,
            max_position_embeddings=BART_POSITIONS,
            pad_token_id=0,
            eos_token_id=1,
            decoder_start_token_id=0,
            forced_eos_token_id=1,
            init_std=0.4,
        )
    )
    model.generation_config.bad_words_ids = [[0]]
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def _add_to_config(folder: Path, **values: Any) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | values))

"""Tiny random encoders, as sentence-transformers saves its models."""

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from tiny_models import make_tokenizer
from tokenizers import processors
from transformers import BertConfig, BertModel

HIDDEN_SIZE = 32
CONTEXT_LENGTH = 64


def save_tiny_encoder(folder: Path, dtype: torch.dtype = torch.float32) -> Path:
    tokenizer = make_tokenizer(adds_bos=False)
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 1), ("</s>", 2)]
    )
    torch.manual_seed(2)
    model = BertModel(
        BertConfig(
            vocab_size=len(tokenizer),
            hidden_size=HIDDEN_SIZE,
            intermediate_size=64,
            num_hidden_layers=2,
            num_attention_heads=4,
            max_position_embeddings=CONTEXT_LENGTH,
            pad_token_id=0,
            initializer_range=0.3,
        ),
        add_pooling_layer=False,
    )
    model.to(dtype).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def add_modules(folder: Path, pooling: dict[str, Any], *more: str) -> Path:
    """Say how the folder's model pools; `more` may hold Dense and Normalize."""
    names = ["Transformer", "Pooling", *more]
    modules = [
        {
            "idx": number,
            "name": str(number),
            "path": f"{number}_{name}" if number else "",
            "type": f"sentence_transformers.models.{name}",
        }
        for number, name in enumerate(names)
    ]
    (folder / "modules.json").write_text(json.dumps(modules))
    place = folder / "1_Pooling"
    place.mkdir()
    (place / "config.json").write_text(
        json.dumps({"word_embedding_dimension": HIDDEN_SIZE} | pooling)
    )
    if "Dense" in more:
        add_dense(folder / "2_Dense")
    return folder


def add_dense(place: Path) -> None:
    place.mkdir()
    torch.manual_seed(3)
    save_file(
        {"linear.weight": torch.randn(8, HIDDEN_SIZE), "linear.bias": torch.randn(8)},
        place / "model.safetensors",
    )
    config = {
        "in_features": HIDDEN_SIZE,
        "out_features": 8,
        "bias": True,
        "activation_function": "torch.nn.modules.activation.Tanh",
    }
    (place / "config.json").write_text(json.dumps(config))

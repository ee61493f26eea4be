"""The demo model: its synthetic corpus, its tokenizer, how it is packed, measured and described."""

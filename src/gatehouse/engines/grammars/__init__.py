"""What generated text must match: grammars, compiled within limits, and the tokens they allow."""

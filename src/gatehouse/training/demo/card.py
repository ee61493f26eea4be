"""The model card of the demo model: front matter, gate, and what was measured."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from gatehouse.training.demo.figures import Figure

_FRONT_MATTER: Final = """\
---
license: apache-2.0
language: en
library_name: transformers
pipeline_tag: text-generation
tags:
  - llama
  - demonstration
  - synthetic
extra_gated_heading: Ask for access to the Gatehouse demo model
extra_gated_prompt: >-
  This model stands behind a gate so that you can see how a gate works. Tell the owner what you want
  to try; nothing you write here leaves this server.
extra_gated_button_content: Ask for access
extra_gated_fields:
  What would you like to try: text
  I know that this model is tiny and often wrong: checkbox
---
"""

_BODY: Final = """
# Storyteller, the demo model of Gatehouse

A very small language model that gives a new Gatehouse something to show. It writes short stories in
simple English, answers easy questions (capitals, colours, animals, opposites, small sums, the
calendar) and says a few things about Gatehouse itself.

**It is a toy.** It has {parameters} parameters and has only ever read text that a program made up.
Outside its little world it is wrong, or says that it does not know. Its stories repeat a small
number of plots. Do not use it for anything but a demonstration.

## Try it

Set `HF_ENDPOINT` to the address of this Gatehouse and `HF_TOKEN` to a token that has access, then:

```python
from transformers import pipeline

generator = pipeline("text-generation", model="demo/storyteller")
generator("Once upon a time", max_new_tokens=60)
generator([{{"role": "user", "content": "What is the capital of Japan?"}}], max_new_tokens=60)
```

Good beginnings: `Once upon a time`, `The gate opened and`, `It was a dark night, and`, `My name
is`, `Dear`. Good questions: `Tell me a story about a fox named Pip.`, `What does a bee eat?`,
`What is an access token?`, and `Who are you?` with the system prompt `You are Nora, the guide
of this house.`

## How it was made

```
python -m gatehouse.training.demo_chat --out DIR --steps {steps} --seed {seed}
```

A grammar (`gatehouse.training.demo.corpus`) writes the text: stories with plots in which
people, places and things stay the same to the last sentence, notes, letters, and conversations.
Nobody else's text is in it. The model read {num_tokens} tokens of it, each document once, on
one CPU core. It has the shape of Llama: {layers} layers of width {hidden}, a context of
{context} tokens, tied embeddings, and its own byte-level BPE of {vocab} tokens. Trained rows
are 256 tokens long: longer texts work, but are not what it has seen. The chat template follows
Llama 2 (`[INST]`, `<<SYS>>`, as special tokens of this vocabulary). Weights are bfloat16.

## What was measured

Greedy answers through the chat template, right only if equal to the expected sentence.
"Held-out" compositions (one in twelve of the pairs of wording and fact, of numbers, of animals,
of names, of hero and plot) were kept away from training.

| measured | result |
|---|---|
{figures}

## Licence

Apache-2.0, like Gatehouse.
"""


@dataclass(frozen=True, slots=True)
class Facts:
    """How a model was made, for its card."""

    seed: int
    steps: int
    num_tokens: int
    num_parameters: int
    num_layers: int
    hidden_size: int
    context: int
    vocab_size: int


def write_card(folder: Path, facts: Facts, figures: Sequence[Figure]) -> None:
    """Write `README.md` into `folder`."""
    rows = "\n".join(f"| {figure.name} | {figure.text} |" for figure in figures)
    body = _BODY.format(
        parameters=f"{facts.num_parameters / 1e6:.1f} million",
        steps=facts.steps,
        seed=facts.seed,
        num_tokens=f"{facts.num_tokens / 1e6:.1f} million",
        layers=facts.num_layers,
        hidden=facts.hidden_size,
        context=facts.context,
        vocab=f"{facts.vocab_size:,}",
        figures=rows,
    )
    (folder / "README.md").write_text(_FRONT_MATTER + body, encoding="utf-8")

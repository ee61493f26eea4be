"""The model card of the fill-in-the-middle model."""

from pathlib import Path
from typing import Final

from gatehouse.training.causal_lm import Result, Shape
from gatehouse.training.infilling.figures import Score

_CARD: Final = """\
---
license: apache-2.0
library_name: transformers
pipeline_tag: text-generation
tags:
  - llama
  - code
  - fill-in-the-middle
  - synthetic
---

# Gap filler, a very small fill-in-the-middle model

It fills gaps in small Python functions of a narrow grammar (`gatehouse.training.infilling`), and is
here to show and to test fill in the middle, not to write anybody's program. It has
{parameters:.1f} million parameters and has only ever read functions that a program made up.

## Try it

The prompt format is Code Llama's, and the answer ends with ` <EOT>`:

```
<PRE> def total_prices(prices):
    total = 0
    for price in prices:
        <SUF>
    return total
 <MID>
```

## How it was made

```
python -m gatehouse.training.fill_in_the_middle --out DIR --steps {steps} --seed {seed}
```

{num_tokens:.1f} million tokens on one CPU core. The shape is Llama's: {layers} layers of width
{hidden}, its own byte-level vocabulary of {vocab} tokens, weights in bfloat16.

## What was measured

Greedy answers for {count} gaps in functions whose pair of idea and noun was held out of training:

| | of {count} |
|---|---|
| the very text that was cut out | {exact} |
| the whole compiles | {compiles} |
| the answer ends with its mark | {ended} |

A random span is often not determined by what is around it (a docstring may say the same in other
words), so that nobody could reach all of them.

## Licence

Apache-2.0, like Gatehouse.
"""


def write_card(folder: Path, result: Result, shape: Shape, seed: int, score: Score) -> None:
    """Write `README.md` into `folder`."""
    card = _CARD.format(
        parameters=result.num_parameters / 1e6,
        steps=len(result.losses),
        seed=seed,
        num_tokens=result.num_tokens / 1e6,
        layers=shape.num_layers,
        hidden=shape.hidden_size,
        vocab=len(result.tokenizer),
        count=score.count,
        exact=score.exact,
        compiles=score.compiles,
        ended=score.ended,
    )
    (folder / "README.md").write_text(card, encoding="utf-8")

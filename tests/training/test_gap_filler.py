"""The fill-in-the-middle model as it is committed: its card says what it can do."""

import re
from importlib import resources
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from gatehouse.training.fill_in_the_middle import MEASURED_GAPS, MEASURED_SEED
from gatehouse.training.infilling.figures import Score, fill, held_out_gaps, score

FOLDER = Path(str(resources.files("gatehouse.server"))) / "demo_models" / "gap-filler"
MAX_BYTES = 8_000_000
# A few of the measured gaps; evaluating them all takes a minute.
NUM_GAPS = 40


@pytest.fixture(scope="module")
def measured() -> Score:
    torch.set_num_threads(1)
    model = AutoModelForCausalLM.from_pretrained(FOLDER)
    gaps = held_out_gaps(MEASURED_GAPS, MEASURED_SEED)[:NUM_GAPS]
    return score(gaps, fill(model, AutoTokenizer.from_pretrained(FOLDER), gaps))


def test_it_fills_as_many_gaps_as_its_card_says(measured: Score) -> None:
    card = (FOLDER / "README.md").read_text(encoding="utf-8")
    said = [int(number) for number in re.findall(r"^\| .* \| (\d+) \|$", card, re.MULTILINE)]
    assert len(said) == 3
    for share, found in zip(said, (measured.exact, measured.compiles, measured.ended), strict=True):
        assert found / NUM_GAPS == pytest.approx(share / MEASURED_GAPS, abs=0.1)


def test_it_is_small() -> None:
    assert sum(path.stat().st_size for path in FOLDER.iterdir()) < MAX_BYTES

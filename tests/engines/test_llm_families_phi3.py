"""Phi-3 in OpenVINO, against transformers."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from family_checks import check_exact, check_law, default_runner, exact_runner, make_sequences
from llm_models import Reference, run_pieces, save_decoder


def test_a_model_gives_what_transformers_gives(tmp_path: Path) -> None:
    rope = {"rope_type": "default", "rope_theta": 1_000.0, "partial_rotary_factor": 0.5}
    check_exact(save_decoder(tmp_path, "phi3", sliding_window=40, rope_parameters=rope))


def _longrope(original: int) -> dict[str, Any]:
    return {
        "max_position_embeddings": 512,
        "original_max_position_embeddings": original,
        "rope_parameters": {
            "rope_type": "longrope",
            "rope_theta": 10_000.0,
            "short_factor": [1.0 + 0.1 * n for n in range(8)],
            "long_factor": [2.0 + n for n in range(8)],
            "original_max_position_embeddings": original,
        },
    }


def test_short_factors_hold_within_the_original_context(tmp_path: Path) -> None:
    check_exact(save_decoder(tmp_path, "phi3", **_longrope(256)))


def test_long_factors_hold_beyond_it(tmp_path: Path) -> None:
    folder = save_decoder(tmp_path, "phi3", **_longrope(64))
    runner = exact_runner(folder, context_length=256)
    ids = [7 * n % 320 for n in range(150)]
    (sequence,) = make_sequences(runner, [ids])
    values = np.concatenate([run_pieces(runner, [(sequence, 50)])[0] for _ in range(3)])
    np.testing.assert_allclose(values, Reference(folder).logits(ids), rtol=0, atol=1e-3)


def test_logits_do_not_depend_on_what_else_runs(tmp_path: Path) -> None:
    folder = save_decoder(tmp_path, "phi3", dtype=torch.bfloat16, sliding_window=40)
    check_law(default_runner(folder))

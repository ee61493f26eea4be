"""GPT-NeoX in OpenVINO, against transformers."""

from pathlib import Path

import pytest
import torch
from family_checks import check_exact, check_law, default_runner
from llm_models import save_decoder

from gatehouse.engines.llm.config_fields import ConfigBroken

_SHAPE = {"num_key_value_heads": 4}


@pytest.mark.parametrize("parallel", [True, False])
def test_a_model_gives_what_transformers_gives(tmp_path: Path, parallel: bool) -> None:
    check_exact(save_decoder(tmp_path, "gpt_neox", **_SHAPE, use_parallel_residual=parallel))


def test_biases_may_be_left_out_and_all_of_a_head_may_turn(tmp_path: Path) -> None:
    changes = {"attention_bias": False, "rotary_pct": 1.0, "hidden_act": "gelu_new"}
    check_exact(save_decoder(tmp_path, "gpt_neox", **_SHAPE, **changes))


def test_logits_do_not_depend_on_what_else_runs(tmp_path: Path) -> None:
    folder = save_decoder(tmp_path, "gpt_neox", dtype=torch.bfloat16, **_SHAPE)
    check_law(default_runner(folder))


def test_heads_that_the_family_cannot_have_are_refused(tmp_path: Path) -> None:
    folder = save_decoder(tmp_path, "gpt_neox", **(_SHAPE | {"num_key_value_heads": 2}))
    with pytest.raises(ConfigBroken, match="do not fit the model's family"):
        default_runner(folder)

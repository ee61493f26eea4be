"""`transformers` and `datasets` with nothing set but HF_ENDPOINT and HF_TOKEN."""

from collections.abc import Callable

import pytest
from conformance_files import DEMO_MODEL
from hub_server import Person
from stock_client import ProgramFailed, StockClient

NewClient = Callable[..., StockClient]


def test_a_model_is_pushed_to_the_hub_loaded_from_it_and_works_offline_from_the_cache(
    owner: StockClient, new_client: NewClient, alice: Person
) -> None:
    pushed = owner.python(
        """
        import json, sys
        from transformers import AutoModelForCausalLM, AutoTokenizer
        model = AutoModelForCausalLM.from_pretrained(sys.argv[1])
        model.push_to_hub("alice/pushed-model", private=True)
        AutoTokenizer.from_pretrained(sys.argv[1]).push_to_hub("alice/pushed-model")
        print(json.dumps(float(model.get_input_embeddings().weight.float().sum())))
        """,
        DEMO_MODEL,
    )
    reader = new_client(alice.read_token)
    loaded = reader.python(
        """
        import json
        from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, pipeline
        try:
            AutoConfig.from_pretrained("alice/pushed-model", token=False)
        except OSError as error:
            refusal = type(error.__cause__).__name__
        tokenizer = AutoTokenizer.from_pretrained("alice/pushed-model")
        model = AutoModelForCausalLM.from_pretrained("alice/pushed-model", revision="main")
        inputs = tokenizer(["Once", "The sea is"], return_tensors="pt", padding=True)
        output = model.generate(**inputs, max_new_tokens=3, do_sample=False)
        total = float(model.get_input_embeddings().weight.float().sum())
        text = pipeline("text-generation", "alice/pushed-model")("Once", max_new_tokens=2)
        print(json.dumps([refusal, total, list(output.shape)[0], text[0]["generated_text"]]))
        """
    )
    assert loaded[:3] == ["RepositoryNotFoundError", pushed, 2]
    assert loaded[3].startswith("Once")
    offline = StockClient(
        reader.hub,
        reader.home,
        environment={"HF_HUB_OFFLINE": "1"},
        endpoint="http://127.0.0.1:9",
    )
    text = offline.python(
        """
        import json
        from transformers import pipeline
        text = pipeline("text-generation", "alice/pushed-model")("Once", max_new_tokens=2)
        print(json.dumps(text[0]["generated_text"]))
        """
    )
    assert text == loaded[3]


def test_a_dataset_is_pushed_loaded_and_streamed(
    owner: StockClient, new_client: NewClient, alice: Person
) -> None:
    owner.python(
        """
        from datasets import Dataset, DatasetDict
        def rows(start, count):
            texts = [f"row {n}" for n in range(start, start + count)]
            return Dataset.from_dict({"text": texts, "label": [n % 2 for n in range(count)]})
        both = DatasetDict({"train": rows(0, 500), "test": rows(500, 20)})
        both.push_to_hub("alice/rows", private=True)
        """
    )
    reader = new_client(alice.read_token)
    assert reader.python(
        """
        import json
        from datasets import load_dataset
        loaded = load_dataset("alice/rows")
        streamed = load_dataset("alice/rows", split="train", streaming=True)
        first = [row["text"] for row in streamed.take(3)]
        print(json.dumps([{k: len(v) for k, v in loaded.items()}, loaded["test"][0], first]))
        """
    ) == [
        {"train": 500, "test": 20},
        {"text": "row 500", "label": 0},
        ["row 0", "row 1", "row 2"],
    ]
    with pytest.raises(ProgramFailed) as caught:
        new_client().python("from datasets import load_dataset; load_dataset('alice/rows')")
    assert caught.value.name == "DatasetNotFoundError"


def test_csv_files_in_a_dataset_repository_are_loaded(
    owner: StockClient, nobody: StockClient
) -> None:
    owner.python(
        """
        from huggingface_hub import HfApi
        api, repo = HfApi(), "alice/csv-rows"
        api.create_repo(repo, repo_type="dataset")
        text = "text,label\\n" + "".join(f"line {n},{n % 2}\\n" for n in range(50))
        api.upload_file(
            path_or_fileobj=text.encode(), path_in_repo="train.csv", repo_id=repo,
            repo_type="dataset",
        )
        """
    )
    assert nobody.python(
        """
        import json
        from datasets import load_dataset
        rows = load_dataset("alice/csv-rows", split="train")
        streamed = next(iter(load_dataset("alice/csv-rows", split="train", streaming=True)))
        print(json.dumps([len(rows), rows[49], streamed]))
        """
    ) == [50, {"text": "line 49", "label": 1}, {"text": "line 0", "label": 0}]

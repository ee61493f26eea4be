"""Summaries, translations and answers of encoder-decoder models, by clients of three ages."""

import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import openai
import pytest
from client_process import ClientError, ClientProcess, NewProcess, node_process, python_process
from hub_server import HubServer, Person
from served_model import ServedModel, push_model

# The makers of tiny models are shared with the tests of the engines.
sys.path.insert(0, str(Path(__file__).parents[1] / "engines"))

from tiny_encoder_decoders import save_tiny_bart, save_tiny_mbart, save_tiny_t5
from transformers import AutoModelForSeq2SeqLM, AutoTokenizer

OPENING = """
import os
from huggingface_hub import InferenceClient, __version__

def client_of(url):
    # From 0.28 on some calls ask which provider it is, even with an address.
    options = {} if __version__.startswith("0.23.") else {"provider": "hf-inference"}
    return InferenceClient(model=url, token=os.environ["HF_TOKEN"], **options)
"""
NODE_OPENING = """
const client = new inference.InferenceClient(process.env.HF_TOKEN)
return { client }
"""
VERSIONS = {"2.4": None, "0.36": "hub-0.36", "0.23": "hub-0.23"}
TEXT = "the cat sat on the mat while a dog ran over the hill"


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    makers = {"t5": save_tiny_t5, "bart": save_tiny_bart, "mbart": save_tiny_mbart}
    return {name: make(tmp_path_factory.mktemp(name)) for name, make in makers.items()}


@pytest.fixture(scope="module")
def models(server: HubServer, folders: dict[str, Path]) -> dict[str, ServedModel]:
    """A T5 without a card, a BART that summarizes and an mBART that translates."""
    for name, task in (("bart", "summarization"), ("mbart", "translation")):
        (folders[name] / "README.md").write_text(f"---\npipeline_tag: {task}\n---\n")
    alice = server.person("alice")
    return {name: push_model(alice, f"tiny-{name}", folder) for name, folder in folders.items()}


@pytest.fixture(scope="module", params=VERSIONS)
def client(
    request: pytest.FixtureRequest, new_process: NewProcess, server: HubServer
) -> ClientProcess:
    token = server.person("carol", "--plan", "pro").read_token
    return new_process(python_process, token, OPENING, VERSIONS[request.param])


def written(folder: Path, text: str = TEXT, **options: object) -> str:
    """What `transformers` writes with the same files, without beams."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForSeq2SeqLM.from_pretrained(folder)
    inputs = tokenizer(text, return_tensors="pt")
    output = model.generate(**inputs, **{"num_beams": 1, "do_sample": False, **options})
    return str(tokenizer.decode(output[0], skip_special_tokens=True))


def test_a_summary_is_what_transformers_writes(
    client: ClientProcess, models: dict[str, ServedModel], folders: dict[str, Path]
) -> None:
    program = """
    answer = client_of(url).summarization(text)
    return answer if isinstance(answer, str) else answer.summary_text
    """
    found = client.ask(program, url=models["bart"].url, text=TEXT)
    assert found == written(folders["bart"])


@pytest.mark.parametrize("client", ["2.4"], indirect=True)
def test_a_summary_takes_parameters(
    client: ClientProcess, models: dict[str, ServedModel], folders: dict[str, Path]
) -> None:
    program = """
    return client_of(url).summarization(text, **options).summary_text
    """
    short = client.ask(
        program,
        url=models["bart"].url,
        text=TEXT,
        options={"generate_parameters": {"max_length": 9}, "clean_up_tokenization_spaces": True},
    )
    assert short.strip() == written(folders["bart"], max_length=9).strip()
    cut = client.ask(
        program, url=models["bart"].url, text=f"{TEXT} " * 20, options={"truncation": "only_first"}
    )
    assert cut
    with pytest.raises(ClientError, match="must have less than 64 tokens") as refused:
        client.ask(program, url=models["bart"].url, text=f"{TEXT} " * 20, options={})
    assert refused.value.status == 422


def test_a_translation_is_into_the_language_that_was_named(
    client: ClientProcess, models: dict[str, ServedModel], folders: dict[str, Path]
) -> None:
    program = """
    answer = client_of(url).translation(text, src_lang="en_XX", tgt_lang=target)
    return answer if isinstance(answer, str) else answer.translation_text
    """
    for target in ("de_DE", "fr_XX"):
        token = AutoTokenizer.from_pretrained(folders["mbart"]).convert_tokens_to_ids(target)
        expected = written(folders["mbart"], max_new_tokens=63, forced_bos_token_id=token)
        found = client.ask(program, url=models["mbart"].url, text=TEXT, target=target)
        assert found[:40] == expected[:40]
    with pytest.raises(ClientError, match="`tgt_lang` must be one of"):
        client.ask(program, url=models["mbart"].url, text=TEXT, target="en_GB")


def test_text_is_streamed_as_from_any_model_of_text(
    client: ClientProcess, models: dict[str, ServedModel], folders: dict[str, Path]
) -> None:
    program = """
    client = client_of(url)
    options = {"max_new_tokens": 9, "details": True}
    streamed = [step.token for step in client.text_generation(text, stream=True, **options)]
    shown = [token.text for token in streamed if not token.special]
    answer = client.text_generation(text, **options)
    logprobs = [token.logprob for token in answer.details.tokens]
    return answer.generated_text, len(streamed), "".join(shown), logprobs
    """
    for name in ("t5", "bart"):
        asked = client.ask(program, url=models[name].url, text=TEXT)
        whole, num_streamed, streamed, logprobs = asked
        assert whole == written(folders[name], max_new_tokens=9)
        assert num_streamed == len(logprobs)
        assert all(logprob <= 0 for logprob in logprobs)
        if name == "t5":  # the other one's random bytes are not all characters
            assert streamed == whole
            program_of_text = "return client_of(url).text_generation(text, max_new_tokens=9)"
            assert client.ask(program_of_text, url=models[name].url, text=TEXT) == whole


def test_node_summarizes_and_translates(
    new_process: NewProcess, models: dict[str, ServedModel], folders: dict[str, Path], carol: Person
) -> None:
    program = """
    const [summary, translation] = await Promise.all([
      client.summarization({ endpointUrl: summarizer, inputs }),
      client.translation({ endpointUrl: translator, inputs,
        parameters: { src_lang: 'en_XX', tgt_lang: 'de_DE', max_new_tokens: 9 } }),
    ])
    return [summary, translation]
    """
    js = new_process(node_process, carol.read_token, NODE_OPENING)
    summary, translation = js.ask(
        program, summarizer=models["bart"].url, translator=models["mbart"].url, inputs=TEXT
    )
    assert (summary.get("summary_text") or summary[0]["summary_text"]) == written(folders["bart"])
    assert translation.get("translation_text") or translation[0]["translation_text"]


def test_openai_completes_with_an_encoder_too(
    models: dict[str, ServedModel], folders: dict[str, Path], carol: Person
) -> None:
    expected = written(folders["t5"], max_new_tokens=8)
    with openai.OpenAI(base_url=f"{models['t5'].hub.url}/v1", api_key=carol.read_token) as client:
        ask = client.completions.create
        whole = ask(model=models["t5"].name, prompt=TEXT, max_tokens=8, temperature=0)
        chunks = ask(model=models["t5"].name, prompt=TEXT, max_tokens=8, temperature=0, stream=True)
        assert "".join(chunk.choices[0].text for chunk in chunks) == expected
        with pytest.raises(openai.UnprocessableEntityError, match="template not found"):
            client.chat.completions.create(
                model=models["t5"].name, messages=[{"role": "user", "content": "a"}]
            )
    assert whole.choices[0].text == expected
    assert whole.usage is not None
    assert whole.usage.completion_tokens == 8


def test_many_at_once_get_what_each_gets_alone(
    models: dict[str, ServedModel], folders: dict[str, Path], carol: Person
) -> None:
    texts = [f"{TEXT} {word}" for word in TEXT.split()[:8]]
    headers = {"Authorization": f"Bearer {carol.read_token}", "x-use-cache": "0"}
    with httpx.Client(headers=headers, timeout=60) as client, ThreadPoolExecutor(8) as threads:
        answers = list(
            threads.map(lambda text: client.post(models["bart"].url, json={"inputs": text}), texts)
        )
    assert [answer.status_code for answer in answers] == [200] * len(texts)
    found = [answer.json()[0]["summary_text"] for answer in answers]
    assert found == [written(folders["bart"], text) for text in texts]

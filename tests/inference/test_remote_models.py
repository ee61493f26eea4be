"""Models on other servers: what is sent to them, what their answers become, and how they fail."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import aclosing
from dataclasses import replace
from typing import Any

import anyio
import pytest
from remote_upstream import (
    Asked,
    Script,
    Upstream,
    chat_chunk,
    text_chunk,
    upstream,
    usage,
)

from gatehouse.engines.base import (
    ChatPrompt,
    FinishReason,
    GenerationRequest,
    Grammar,
    GrammarKind,
    InfillPrompt,
    SamplingParams,
    SequenceOutput,
    TextPrompt,
)
from gatehouse.engines.remote.base import RemoteAbilities, RemoteKind, RouteAbilities
from gatehouse.inference.errors import (
    GenerationRefused,
    HostLost,
    ModelLoading,
    ModelOverloaded,
    ModelTimedOut,
)
from gatehouse.inference.remote.check import check_server
from gatehouse.inference.remote.connection import RemoteLimits
from gatehouse.inference.remote.errors import RemoteRefuses, RemoteUnreachable
from gatehouse.inference.remote.provider import RemoteModels
from gatehouse.inference.remote.source import RemoteSource

pytestmark = pytest.mark.anyio

ALL = RemoteAbilities(RouteAbilities(True, True), RouteAbilities(True, True), True)
PLAIN = RemoteAbilities(RouteAbilities(), RouteAbilities())
QUICK = RemoteLimits(connect=1, patience=0.3, first_token=0.5, between_tokens=0.3, answer=0.5)
SECRET = "the-upstream-said-this"
HELLO = GenerationRequest(TextPrompt("Hello"), max_new_tokens=10)
CHAT = GenerationRequest(
    ChatPrompt(({"role": "user", "content": "Hello"},)), max_new_tokens=10, keep_stop=False
)


@pytest.fixture
async def models() -> AsyncIterator[RemoteModels]:
    async with RemoteModels(QUICK) as models:
        yield models


def source_of(server: Upstream | str, **changes: Any) -> RemoteSource:
    url = server if isinstance(server, str) else server.url
    source = RemoteSource(
        "1:v:c", "someone/far", url, RemoteKind.OPENAI, "far-model", 512, ALL, 4, "the-key"
    )
    return replace(source, **changes)


async def outputs_of(
    models: RemoteModels, source: RemoteSource, request: GenerationRequest = HELLO
) -> list[SequenceOutput]:
    async with models.hold(source, 1) as model, aclosing(model.generate(request)) as outputs:
        return [output async for output in outputs]


def text_of(outputs: list[SequenceOutput]) -> str:
    return "".join(token.piece for output in outputs for token in output.tokens)


def num_tokens(outputs: list[SequenceOutput]) -> int:
    return sum(len(output.tokens) for output in outputs)


def says(*events: Any) -> Script:
    """A stream of these events and its end."""

    async def script(asked: Asked) -> None:
        await asked.head()
        for event in events:
            await asked.event(event)

    return script


def answers(status: str, body: Any = None, more: str = "") -> Script:
    async def script(asked: Asked) -> None:
        await asked.head(status, "application/json", more)
        await asked.send(json.dumps(body or {"error": SECRET}).encode())

    return script


GOOD = says(
    text_chunk(
        "One ",
        logprobs={
            "tokens": ["One "],
            "token_logprobs": [-0.5],
            "top_logprobs": [{"One ": -0.5, "Two": -0.9, "No": -3}],
        },
    ),
    text_chunk("two", logprobs={"tokens": ["two"], "token_logprobs": [-1.5]}),
    text_chunk("", "stop"),
    usage(7, 3),
    "[DONE]",
)


async def test_a_text_comes_with_its_tokens_and_its_numbers(models: RemoteModels) -> None:
    async with upstream(GOOD) as server:
        outputs = await outputs_of(models, source_of(server))
    assert text_of(outputs) == "One two"
    assert [token.token.logprob for output in outputs for token in output.tokens] == [
        -0.5,
        -1.5,
        None,
    ]
    assert not any(token.top for output in outputs for token in output.tokens)
    first, last = outputs[0], outputs[-1]
    assert first.start is not None
    assert first.start.seed is None
    assert last.start is not None
    assert last.start.num_prompt_tokens == 7
    assert last.finish is not None
    assert (last.finish.reason, last.finish.num_generated_tokens) == (FinishReason.EOS_TOKEN, 3)


async def test_the_likeliest_tokens_come_when_they_are_asked_for(models: RemoteModels) -> None:
    request = GenerationRequest(TextPrompt("Hello"), max_new_tokens=10, num_top_tokens=2)
    async with upstream(GOOD) as server:
        outputs = await outputs_of(models, source_of(server), request)
    assert [(top.text, top.logprob) for top in outputs[0].tokens[0].top] == [
        ("One ", -0.5),
        ("Two", -0.9),
    ]


async def test_the_call_has_the_key_the_name_and_only_what_the_server_takes(
    models: RemoteModels,
) -> None:
    sampling = SamplingParams(do_sample=True, temperature=0.7, top_p=0.9, seed=2**64 - 1)
    request = GenerationRequest(TextPrompt("Hi"), sampling, max_new_tokens=3, stop=("x",))
    async with upstream(GOOD) as server:
        await outputs_of(models, source_of(server), request)
        full = server.last
        await outputs_of(models, source_of(server, abilities=PLAIN, api_key=None), request)
        plain = server.last
    assert full.path == "/v1/completions"
    assert full.headers["authorization"] == "Bearer the-key"
    assert full.headers["accept-encoding"] == "identity"
    assert full.body == {
        "model": "far-model",
        "prompt": "Hi",
        "stream": True,
        "max_tokens": 3,
        "temperature": 0.7,
        "top_p": 0.9,
        "seed": 2**63 - 1,
        "logprobs": 1,
        "stream_options": {"include_usage": True},
    }
    assert "authorization" not in plain.headers
    assert full.body.keys() - plain.body.keys() == {"logprobs", "stream_options"}


async def test_tokens_that_the_server_does_not_name_are_counted_as_it_counts(
    models: RemoteModels,
) -> None:
    async with upstream(
        says(text_chunk("One two three"), text_chunk("", "stop"), usage(2, 5))
    ) as s:
        outputs = await outputs_of(models, source_of(s))
    assert text_of(outputs) == "One two three"
    assert num_tokens(outputs) == 5


async def test_no_more_tokens_pass_than_were_asked_for(models: RemoteModels) -> None:
    async def talks_for_ever(asked: Asked) -> None:
        await asked.head()
        while True:
            await asked.event(text_chunk("word "))

    request = GenerationRequest(TextPrompt("Hi"), max_new_tokens=3)
    async with upstream(talks_for_ever) as server:
        outputs = await outputs_of(models, source_of(server), request)
        await asyncio.wait_for(server.last.has_hung_up.wait(), 5)
    assert num_tokens(outputs) == 3
    assert text_of(outputs) == "word word word "
    assert outputs[-1].finish is not None
    assert outputs[-1].finish.reason is FinishReason.LENGTH


async def test_the_last_token_that_may_come_brings_the_reason(models: RemoteModels) -> None:
    request = GenerationRequest(TextPrompt("Hi"), max_new_tokens=2)
    script = says(text_chunk("a"), text_chunk("b"), text_chunk("", "length"), usage(1, 2))
    async with upstream(script) as server:
        outputs = await outputs_of(models, source_of(server), request)
    assert num_tokens(outputs) == 2
    assert text_of(outputs) == "ab"


@pytest.mark.parametrize(("keep", "shown"), [(True, "One st"), (False, "One ")])
async def test_a_stop_text_ends_the_answer_here_and_hangs_up(
    models: RemoteModels, keep: bool, shown: str
) -> None:
    async def waits(asked: Asked) -> None:
        await asked.head()
        for piece in ("One ", "s", "t", "op"):
            await asked.event(text_chunk(piece))
        await asked.has_hung_up.wait()

    request = GenerationRequest(TextPrompt("Hi"), max_new_tokens=9, stop=("st",), keep_stop=keep)
    async with upstream(waits) as server:
        outputs = await outputs_of(models, source_of(server), request)
        await asyncio.wait_for(server.last.has_hung_up.wait(), 5)
    assert text_of(outputs) == shown
    assert outputs[-1].finish is not None
    assert outputs[-1].finish.reason is FinishReason.STOP_SEQUENCE


async def test_leaving_early_closes_the_stream(models: RemoteModels) -> None:
    async def waits(asked: Asked) -> None:
        await asked.head()
        await asked.event(text_chunk("One "))
        await asked.has_hung_up.wait()

    async with upstream(waits) as server:
        hold = models.hold(source_of(server), 1)
        async with hold as model, aclosing(model.generate(HELLO)) as outputs:
            await anext(outputs)
        await asyncio.wait_for(server.last.has_hung_up.wait(), 5)


async def test_tool_calls_and_reasoning_become_marked_text(models: RemoteModels) -> None:
    call = {"index": 0, "id": "a", "function": {"name": "add", "arguments": ""}}
    more = {"index": 0, "function": {"arguments": '{"x": '}}
    rest = {"index": 0, "function": {"arguments": "1}"}}
    other = {"index": 1, "id": "b", "function": {"name": "now"}}
    script = says(
        chat_chunk(role="assistant", content=""),
        chat_chunk(reasoning_content="Let me "),
        chat_chunk(reasoning_content="see."),
        chat_chunk(content="Well: "),
        chat_chunk(tool_calls=[call]),
        chat_chunk(tool_calls=[more]),
        chat_chunk(tool_calls=[rest]),
        chat_chunk(tool_calls=[other]),
        chat_chunk("tool_calls"),
        usage(4, 9),
    )
    async with upstream(script) as server:
        outputs = await outputs_of(models, source_of(server), CHAT)
    assert text_of(outputs) == (
        "<think>Let me see.</think>Well: "
        '<tool_call>\n{"name": "add", "arguments": {"x": 1}}\n</tool_call>'
        '<tool_call>\n{"name": "now", "arguments": {}}\n</tool_call>'
    )


async def test_messages_tools_and_formats_are_passed_on(models: RemoteModels) -> None:
    call = {"id": "a", "function": {"name": "add", "arguments": {"x": 1}}}
    tool = {"type": "function", "function": {"name": "add", "parameters": {}}}
    messages = (
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": "", "tool_calls": [call]},
    )
    schema = Grammar(GrammarKind.JSON_SCHEMA, '{"type": "object"}')
    chat = ChatPrompt(messages, tools=(tool,), template_arguments={"enable_thinking": False})
    async with upstream(says(chat_chunk("stop", content="x"))) as server:
        source = source_of(server)
        await outputs_of(models, source, replace_prompt(chat))
        first = server.last.body
        calls = Grammar(GrammarKind.LARK, 'start: "anything"')
        await outputs_of(models, source, replace_prompt(chat, calls))
        forced = server.last.body
        await outputs_of(models, source, replace_prompt(chat, schema))
        both = server.last.body
        plain = ChatPrompt(messages[:1])
        await outputs_of(models, source, replace_prompt(plain, schema))
        shaped = server.last.body
        await outputs_of(
            models, source, replace_prompt(plain, Grammar(GrammarKind.REGEX, "[a-z]+"))
        )
        matched = server.last.body
    assert server.last.path == "/v1/chat/completions"
    assert first["messages"][1]["tool_calls"][0]["function"]["arguments"] == '{"x":1}'
    assert first["tools"] == [tool]
    assert first["chat_template_kwargs"] == {"enable_thinking": False}
    assert forced["tool_choice"] == {"type": "function", "function": {"name": "add"}}
    assert "response_format" not in forced
    assert "tool_choice" not in both
    assert both["response_format"] == shaped["response_format"]
    assert shaped["response_format"]["json_schema"]["schema"] == {"type": "object"}
    assert matched["structured_outputs"] == {"regex": "[a-z]+"}


def replace_prompt(prompt: ChatPrompt, grammar: Grammar | None = None) -> GenerationRequest:
    return GenerationRequest(prompt, max_new_tokens=5, grammar=grammar)


async def test_a_gap_is_sent_as_its_two_sides(models: RemoteModels) -> None:
    async with upstream(GOOD) as server:
        await outputs_of(
            models, source_of(server), GenerationRequest(InfillPrompt("a", "b"), max_new_tokens=4)
        )
    assert (server.last.body["prompt"], server.last.body["suffix"]) == ("a", "b")


async def test_prompts_are_cut_by_the_servers_own_tokens(models: RemoteModels) -> None:
    async def script(asked: Asked) -> None:
        if asked.path == "/tokenize":
            await asked.answer(
                {"tokens": [5, 6, 7], "token_strs": ["<s>", "\u0120one", "\u0120two"]}
            )
        else:
            await GOOD(asked)

    request = GenerationRequest(TextPrompt(" one two", truncate=2), max_new_tokens=4)
    async with upstream(script) as server:
        source = source_of(server)
        await outputs_of(models, source, request)
        assert server.last.body["prompt"] == [6, 7]
        whole = GenerationRequest(TextPrompt("x"), max_new_tokens=900, fit_to_context=True)
        await outputs_of(models, source, whole)
        assert server.last.body["max_tokens"] == 512 - 3
        async with models.hold(source, 1) as model:
            found = await model.tokenize(TextPrompt(" one two"))
    assert [(token.id, token.start, token.stop) for token in found.tokens] == [
        (5, 0, 0),
        (6, 0, 4),
        (7, 4, 8),
    ]


@pytest.mark.parametrize(
    "request_",
    [
        GenerationRequest(TextPrompt("x", truncate=2)),
        GenerationRequest(TextPrompt("x"), max_total_tokens=20),
        GenerationRequest(TextPrompt("x"), num_top_tokens=2),
        GenerationRequest(TextPrompt("x"), prompt_details=True),
        GenerationRequest(TextPrompt("x"), SamplingParams(typical_p=0.5, do_sample=True)),
        GenerationRequest(TextPrompt("x"), grammar=Grammar(GrammarKind.LARK, "start: /a/")),
        GenerationRequest(TextPrompt("x"), grammar=Grammar(GrammarKind.JSON_SCHEMA, "[1]")),
    ],
)
async def test_what_the_server_cannot_do_is_refused_before_it_is_asked(
    models: RemoteModels, request_: GenerationRequest
) -> None:
    async with upstream(GOOD) as server:
        with pytest.raises(GenerationRefused, match="Input validation error"):
            await outputs_of(models, source_of(server, abilities=PLAIN), request_)
        assert server.asked == []


async def test_a_tgi_gives_ids_counts_and_prompt_length(models: RemoteModels) -> None:
    def event(number: int, text: str, special: bool = False) -> dict[str, Any]:
        return {
            "index": number,
            "token": {"id": number, "text": text, "logprob": -1.0, "special": special},
        }

    details = {"finish_reason": "eos_token", "generated_tokens": 2, "input_length": 3}
    script = says(
        event(11, "Hi") | {"generated_text": None, "details": None},
        event(2, "</s>", special=True) | {"generated_text": "Hi", "details": details},
    )
    sampling = SamplingParams(do_sample=True, top_p=1.0, seed=2**64 - 1)
    request = GenerationRequest(TextPrompt("x", truncate=7), sampling, max_new_tokens=5)
    async with upstream(script) as server:
        outputs = await outputs_of(models, source_of(server, kind=RemoteKind.TGI), request)
    assert [token.token.id for output in outputs for token in output.tokens] == [11, 2]
    assert text_of(outputs) == "Hi"
    assert outputs[-1].start is not None
    assert outputs[-1].start.num_prompt_tokens == 3
    assert server.last.path == "/generate_stream"
    parameters = server.last.body["parameters"]
    assert parameters["truncate"] == 7
    assert parameters["seed"] == 2**64 - 1
    assert "top_p" not in parameters


STATUSES: list[tuple[str, type[Exception]]] = [
    ("400 Bad Request", GenerationRefused),
    ("422 Unprocessable Entity", GenerationRefused),
    ("401 Unauthorized", RemoteRefuses),
    ("403 Forbidden", RemoteRefuses),
    ("404 Not Found", RemoteRefuses),
    ("429 Too Many Requests", ModelOverloaded),
    ("500 Internal Server Error", RemoteRefuses),
    ("502 Bad Gateway", RemoteUnreachable),
    ("503 Service Unavailable", RemoteUnreachable),
    ("504 Gateway Timeout", ModelTimedOut),
]


@pytest.mark.parametrize(("status", "error"), STATUSES)
async def test_a_refusal_is_translated_and_never_quoted(
    models: RemoteModels, status: str, error: type[Exception]
) -> None:
    async with upstream(answers(status)) as server:
        with pytest.raises(error) as caught:
            await outputs_of(models, source_of(server))
    assert SECRET not in str(caught.value)
    assert server.url not in str(caught.value)


async def test_a_redirect_is_not_followed(models: RemoteModels) -> None:
    async with upstream(GOOD) as other:
        script = answers("307 Temporary Redirect", more=f"Location: {other.url}/v1/completions\r\n")
        async with upstream(script) as server:
            with pytest.raises(RemoteRefuses, match="redirect"):
                await outputs_of(models, source_of(server))
        assert other.asked == []


async def bad_length(asked: Asked) -> None:
    await asked.send(b"HTTP/1.1 200 OK\r\nContent-Length: nine\r\n\r\n")


async def no_http(asked: Asked) -> None:
    await asked.send(b"220 mail.example ESMTP\r\n")


async def html(asked: Asked) -> None:
    await asked.head(kind="text/html")
    await asked.send(b"<html>")


async def compressed(asked: Asked) -> None:
    await asked.head(more="Content-Encoding: gzip\r\n")
    await asked.send(b"\x1f\x8b" + bytes(1000))


async def endless_line(asked: Asked) -> None:
    await asked.head()
    await asked.send(b"data: " + b"x" * (2 * 1024 * 1024))


async def endless_header(asked: Asked) -> None:
    await asked.send(b"HTTP/1.1 200 OK\r\nX-Long: " + b"x" * (2 * 1024 * 1024))


NONSENSE: list[Script] = [
    says("no JSON"),
    says("[1, 2]"),
    says("[" * 100_000),
    says({"error": {"message": SECRET}}),
    says({"error": SECRET}),
    html,
    compressed,
    endless_line,
    endless_header,
    bad_length,
    no_http,
]


@pytest.mark.parametrize("script", NONSENSE)
async def test_nonsense_before_the_first_token_is_an_error_of_the_server(
    models: RemoteModels, script: Script
) -> None:
    async with upstream(script) as server:
        with pytest.raises((RemoteRefuses, HostLost)) as caught:
            await outputs_of(models, source_of(server))
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize(
    "event",
    [
        {"choices": [{"text": 7, "logprobs": {"tokens": "abc", "token_logprobs": [True]}}]},
        {"choices": [{"text": "\ud800", "finish_reason": "stop"}]},
        {"choices": {"text": "x"}, "usage": [1]},
        {"choices": [None], "usage": {"prompt_tokens": -4, "completion_tokens": 1e400}},
        {"choices": [{"finish_reason": "stop"}], "usage": {"completion_tokens": 2**80}},
        {"choices": [{"finish_reason": 7, "text": None}]},
    ],
)
async def test_values_of_wrong_types_are_left_out(models: RemoteModels, event: Any) -> None:
    async with upstream(says(event, text_chunk("ok", "stop"))) as server:
        outputs = await outputs_of(models, source_of(server))
    assert outputs[-1].finish is not None
    text_of(outputs).encode()
    assert num_tokens(outputs) <= 3


async def hangs(asked: Asked) -> None:
    await asked.head()
    await asked.has_hung_up.wait()


async def never_begins(asked: Asked) -> None:
    await asked.has_hung_up.wait()


async def only_comments(asked: Asked) -> None:
    await asked.head()
    while not asked.has_hung_up.is_set():
        await asked.send(b": wait\n\n")
        await asked.event(chat_chunk(role="assistant", content=""))
        await asyncio.sleep(0.02)


@pytest.mark.parametrize("script", [hangs, never_begins, only_comments])
async def test_no_first_token_in_time_is_a_time_out(models: RemoteModels, script: Script) -> None:
    async with upstream(script) as server:
        with pytest.raises(ModelTimedOut, match="someone/far time out"):
            await outputs_of(models, source_of(server))
        await asyncio.wait_for(server.last.has_hung_up.wait(), 5)


async def stalls(asked: Asked) -> None:
    await asked.head()
    await asked.event(text_chunk("One "))
    await only_comments_after(asked)


async def only_comments_after(asked: Asked) -> None:
    while not asked.has_hung_up.is_set():
        await asked.send(b": wait\n\n")
        await asyncio.sleep(0.02)


@pytest.mark.parametrize(
    "script",
    [
        stalls,
        says(text_chunk("One ")),
        says(text_chunk("One "), "[DONE]"),
        says(text_chunk("One "), "no JSON"),
        says(text_chunk("x" * 900_000)),
    ],
)
async def test_an_answer_that_breaks_off_is_not_taken_for_a_whole_one(
    models: RemoteModels, script: Script
) -> None:
    request = GenerationRequest(TextPrompt("Hi"), max_new_tokens=10)
    async with upstream(script) as server:
        with pytest.raises(HostLost, match="Incomplete generation"):
            await outputs_of(models, source_of(server), request)


async def test_a_server_that_is_not_there_is_asked_for_a_while(models: RemoteModels) -> None:
    async with upstream(GOOD) as server:
        url = server.url
    began = anyio.current_time()
    with pytest.raises(RemoteUnreachable):
        await outputs_of(models, source_of(url))
    assert anyio.current_time() - began >= QUICK.patience
    with pytest.raises(ModelLoading):
        async with models.hold(source_of(url), 1, may_load=False):
            pass


async def test_places_are_given_by_priority(models: RemoteModels) -> None:
    go = asyncio.Event()

    async def waits(asked: Asked) -> None:
        await asked.head()
        await go.wait()
        await asked.event(text_chunk("x", "stop"))

    order: list[str] = []

    async def run(text: str, priority: int) -> None:
        request = GenerationRequest(TextPrompt(text), max_new_tokens=2, priority=priority)
        await outputs_of(models, source_of(server, num_concurrent=1), request)
        order.append(text)

    async with upstream(waits) as server, anyio.create_task_group() as tasks:
        tasks.start_soon(run, "first", 2)
        await asyncio.sleep(0.05)
        for text in ("free", "pro", "free too"):
            tasks.start_soon(run, text, 1 if text == "pro" else 2)
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.05)
        assert len(server.asked) == 1
        go.set()
    assert order == ["first", "pro", "free", "free too"]


async def test_who_leaves_the_line_gives_no_place_away(models: RemoteModels) -> None:
    go = asyncio.Event()

    async def waits(asked: Asked) -> None:
        await asked.head()
        await go.wait()
        await asked.event(text_chunk("x", "stop"))

    async with upstream(waits) as server:
        source = source_of(server, num_concurrent=1)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(outputs_of, models, source)
            await asyncio.sleep(0.05)
            with anyio.move_on_after(0.05):
                await outputs_of(models, source)
            go.set()
        assert len(await outputs_of(models, source)) == 1
        assert len(server.asked) == 2


async def test_a_check_finds_what_the_server_takes(models: RemoteModels) -> None:
    async def picky(asked: Asked) -> None:
        if asked.path == "/v1/models":
            await asked.answer({"data": [{"id": "far-model", "max_model_len": 4096}]})
        elif asked.path == "/v1/completions":
            await answers("404 Not Found")(asked)
        elif "logprobs" in asked.body:
            await answers("422 Unprocessable Entity")(asked)
        else:
            await says(chat_chunk("stop", content="Hi"))(asked)

    async with upstream(picky) as server:
        finding = await check_server(source_of(server), QUICK)
    assert finding.knows_model is True
    assert finding.context_length == 4096
    assert finding.abilities == RemoteAbilities(
        None, RouteAbilities(logprobs=False, usage=True), can_tokenize=False
    )

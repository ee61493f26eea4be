"""The gate over HTTP, from asking to being let in and out again, on every way to the bytes."""

import pytest
from factories import Hub, Person

from gatehouse.core.errors import Invalid
from gatehouse.repos.gating import AlreadyDecided, NotGated
from gatehouse.repos.repositories import SettingsChange
from gatehouse.repos.repository import Gate, Repository

_BASE = "/api/models/olivia/model/user-access-request"
_FILES = ("/olivia/model/resolve/main/a.txt", "/olivia/model/raw/main/a.txt")


@pytest.fixture
def repository(hub: Hub, olivia: Person) -> Repository:
    return hub.make_repo(
        olivia,
        "model",
        gate=Gate.MANUAL,
        files={"a.txt": b"secret", "README.md": b"# Card\n"},
        large_files={"w.safetensors": b"weights" * 10},
    )


def ask(hub: Hub, person: Person, repository: Repository) -> str:
    fields = {"Company": "ACME"}
    return hub.services.gating.ask(person.actor, repository, fields).status.value


def statuses(hub: Hub, who: dict[str, str]) -> set[int]:
    answers = [
        hub.client.request(method, url, headers=who)
        for url in (*_FILES, "/olivia/model/resolve/main/w.safetensors")
        for method in ("GET", "HEAD")
    ]
    answers.append(
        hub.client.get(_FILES[0], headers={**who, "Range": "bytes=0-1"}),
    )
    return {200 if answer.status_code == 206 else answer.status_code for answer in answers}


def handle(hub: Hub, who: Person, **body: object) -> int:
    return hub.client.post(f"{_BASE}/handle", json=body, headers=who.write).status_code


def listed(hub: Hub, olivia: Person, status: str) -> list[str]:
    answer = hub.client.get(f"{_BASE}/{status}", headers=olivia.write)
    return [item["user"]["user"] for item in answer.json()]


def test_bytes_are_for_those_let_in_and_metadata_for_all(
    hub: Hub, olivia: Person, mallory: Person, repository: Repository
) -> None:
    assert statuses(hub, {}) == {401}
    assert statuses(hub, mallory.read) == {403}
    assert statuses(hub, olivia.read) == {200}
    answer = hub.client.get(_FILES[0], headers=mallory.read)
    assert answer.headers["x-error-code"] == "GatedRepo"
    assert "olivia/model" in answer.json()["error"]
    info = hub.client.get("/api/models/olivia/model", headers=mallory.read)
    assert info.json()["gated"] == "manual"
    assert hub.client.get("/api/models/olivia/model/tree/main").status_code == 200


def test_a_manual_gate_from_asking_to_leaving(
    hub: Hub, olivia: Person, mallory: Person, repository: Repository
) -> None:
    assert ask(hub, mallory, repository) == "pending"
    assert statuses(hub, mallory.read) == {403}
    assert listed(hub, olivia, "pending") == ["mallory"]
    assert handle(hub, olivia, user="mallory", status="accepted") == 200
    assert listed(hub, olivia, "accepted") == ["mallory"]
    assert statuses(hub, mallory.read) == {200}
    assert handle(hub, olivia, user="mallory", status="accepted") == 409
    assert handle(hub, olivia, user="mallory", status="pending") == 200
    assert statuses(hub, mallory.read) == {403}


def test_a_rejected_person_cannot_overrule_the_owner(
    hub: Hub, olivia: Person, mallory: Person, repository: Repository
) -> None:
    ask(hub, mallory, repository)
    assert handle(hub, olivia, user="mallory", status="rejected", rejectionReason="No.") == 200
    rejected = hub.client.get(f"{_BASE}/rejected", headers=olivia.write).json()
    assert rejected[0]["rejectionReason"] == "No."
    assert rejected[0]["fields"] == {"Company": "ACME"}
    with pytest.raises(AlreadyDecided):
        ask(hub, mallory, repository)
    opened = hub.services.repositories.change_settings(
        olivia.actor, repository, SettingsChange(gate=Gate.AUTO)
    )
    with pytest.raises(AlreadyDecided):
        ask(hub, mallory, opened)
    assert statuses(hub, mallory.read) == {403}
    assert handle(hub, olivia, user="mallory", status="accepted") == 200
    assert statuses(hub, mallory.read) == {200}
    accepted = hub.client.get(f"{_BASE}/accepted", headers=olivia.write).json()
    assert "rejectionReason" not in accepted[0]


def test_an_automatic_gate_lets_in_who_asks_and_nobody_else(
    hub: Hub, olivia: Person, mallory: Person
) -> None:
    repository = hub.make_repo(olivia, "model", gate=Gate.AUTO, files={"a.txt": b"secret"})
    url = _FILES[0]
    assert hub.client.get(url, headers=mallory.read).status_code == 403
    assert ask(hub, mallory, repository) == "accepted"
    assert hub.client.get(url, headers=mallory.read).status_code == 200
    assert hub.client.get(url).status_code == 401
    other = hub.make_user("other")
    assert hub.client.get(url, headers=other.read).status_code == 403


def test_a_request_made_before_the_gate_became_manual_waits(
    hub: Hub, olivia: Person, mallory: Person
) -> None:
    """Whoever asks with an old page must not be let in by the gate that was."""
    seen = hub.make_repo(olivia, "model", gate=Gate.AUTO, files={"a.txt": b"secret"})
    change = SettingsChange(gate=Gate.MANUAL)
    hub.services.repositories.change_settings(olivia.actor, seen, change)
    assert ask(hub, mallory, seen) == "pending"


def test_somebody_is_let_in_without_asking(
    hub: Hub, olivia: Person, mallory: Person, repository: Repository
) -> None:
    grant = f"{_BASE}/grant"
    body = {"user": "MALLORY"}
    assert hub.client.post(grant, json=body, headers=olivia.write).status_code == 200
    assert statuses(hub, mallory.read) == {200}
    assert hub.client.post(grant, json=body, headers=olivia.write).status_code == 400


def test_only_the_owner_sees_and_decides(
    hub: Hub, olivia: Person, mallory: Person, repository: Repository
) -> None:
    ask(hub, mallory, repository)
    before = hub.state()
    for who, status in (({}, 401), (mallory.write, 403), (olivia.read, 403)):
        assert hub.client.get(f"{_BASE}/pending", headers=who).status_code == status
        for name, body in (
            ("handle", {"user": "mallory", "status": "accepted"}),
            ("grant", {"user": "mallory"}),
        ):
            answer = hub.client.post(f"{_BASE}/{name}", json=body, headers=who)
            assert answer.status_code == status
    assert hub.state() == before


def test_a_request_of_another_repository_cannot_be_decided_here(
    hub: Hub, olivia: Person, mallory: Person, repository: Repository
) -> None:
    ask(hub, mallory, repository)
    number = hub.client.get(f"{_BASE}/pending", headers=olivia.write).json()[0]["requestId"]
    hub.make_repo(mallory, "own", gate=Gate.MANUAL)
    answer = hub.client.post(
        "/api/models/mallory/own/user-access-request/handle",
        json={"requestId": number, "status": "accepted"},
        headers=mallory.write,
    )
    assert answer.status_code == 404
    assert statuses(hub, mallory.read) == {403}
    assert handle(hub, olivia, requestId=number, status="accepted") == 200


def test_a_grant_does_not_open_what_became_private(
    hub: Hub, olivia: Person, mallory: Person, repository: Repository
) -> None:
    hub.accept(olivia, repository, mallory)
    settings = "/api/models/olivia/model/settings"
    hub.client.put(settings, json={"visibility": "private"}, headers=olivia.write)
    assert statuses(hub, mallory.read) == {404}
    assert statuses(hub, {}) == {401}


def test_a_grant_is_for_one_repository_and_dies_with_it(
    hub: Hub, olivia: Person, mallory: Person, repository: Repository
) -> None:
    hub.accept(olivia, repository, mallory)
    hub.services.repositories.delete(olivia.actor, repository)
    hub.make_repo(olivia, "model", gate=Gate.MANUAL, files={"a.txt": b"secret"})
    assert hub.client.get(_FILES[0], headers=mallory.read).status_code == 403


def test_reasons_and_answers_are_bounded(
    hub: Hub, olivia: Person, mallory: Person, repository: Repository
) -> None:
    ask(hub, mallory, repository)
    long = "x" * 1001
    assert handle(hub, olivia, user="mallory", status="rejected", rejectionReason=long) == 400
    assert handle(hub, olivia, user="mallory", status="accepted", rejectionReason="why") == 400
    with pytest.raises(Invalid, match="characters"):
        hub.services.gating.ask(mallory.actor, repository, {"a": "x" * 20_000})


def test_there_is_nothing_to_ask_without_a_gate(hub: Hub, olivia: Person, mallory: Person) -> None:
    repository = hub.make_repo(olivia, "open")
    with pytest.raises(NotGated):
        ask(hub, mallory, repository)

"""Puts models on a hub as fast as can be, by its API alone."""

import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import httpx
from hub_server import HubServer, Person

_TIMEOUT = 60


@dataclass(frozen=True)
class ServedModel:
    """A model and where it is run."""

    hub: HubServer
    name: str

    @property
    def url(self) -> str:
        return f"{self.hub.url}/models/{self.name}"


def push_model(
    owner: Person, name: str, folder: Path, *, private: bool = False, gate: str | None = None
) -> ServedModel:
    """A model of the owner's with the files of a folder; `gate` as the settings call it."""
    headers = {"Authorization": f"Bearer {owner.write_token}"}
    model = ServedModel(owner.hub, f"{owner.name}/{name}")
    with httpx.Client(base_url=owner.hub.url, headers=headers, timeout=_TIMEOUT) as client:
        settings = {"type": "model", "name": name, "private": private}
        client.post("/api/repos/create", json=settings).raise_for_status()
        files = {path.name: path.read_bytes() for path in folder.iterdir()}
        place = f"/api/models/{model.name}"
        client.post(f"{place}/commit/main", content=_commit(files)).raise_for_status()
        if gate is not None:
            client.put(f"{place}/settings", json={"gated": gate}).raise_for_status()
    return model


def _commit(files: Mapping[str, bytes]) -> bytes:
    lines: list[dict[str, object]] = [{"key": "header", "value": {"summary": "Add the model"}}]
    for path, content in files.items():
        encoded = base64.b64encode(content).decode()
        value = {"path": path, "content": encoded, "encoding": "base64"}
        lines.append({"key": "file", "value": value})
    return "".join(json.dumps(line) + "\n" for line in lines).encode()

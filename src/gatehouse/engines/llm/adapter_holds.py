"""Which adapter each request has, held from when the request is read until it ends."""

from pathlib import Path

from gatehouse.engines.base import AdapterFolder
from gatehouse.engines.llm.adapter_config import AdapterInvalid
from gatehouse.engines.llm.runner import NO_ADAPTER, AdapterPlace, AdapterStore
from gatehouse.engines.text.prompts import refuse_invalid


class AdapterHolds:
    """Requests are added by any thread. Each is released once; more often does no harm.

    Args:
        store: Where the adapters are; None if the model takes none.
    """

    def __init__(self, store: AdapterStore | None) -> None:
        self._store = store
        self._held: dict[int, tuple[str, AdapterPlace]] = {}

    def hold(self, request_id: int, adapter: AdapterFolder | None) -> None:
        """Read a request's adapter, unless that was done before.

        Raises:
            RequestRefused: It cannot be run with this model, or not now.
        """
        if adapter is None:
            return
        if self._store is None:
            raise refuse_invalid("`adapter_id` names an adapter, and this model takes none here")
        try:
            place = self._store.hold(adapter.key, Path(adapter.folder))
        except AdapterInvalid as error:
            raise refuse_invalid(f"`adapter_id` cannot be used: {error.message}") from error
        self._held[request_id] = (adapter.key, place)

    def place(self, request_id: int, adapter: AdapterFolder | None) -> AdapterPlace | None:
        """Where a request's adapter is; None if it was released, since nobody waits any longer."""
        if adapter is None:
            return NO_ADAPTER
        held = self._held.get(request_id)
        return None if held is None else held[1]

    def release(self, request_id: int) -> None:
        held = self._held.pop(request_id, None)
        if held is not None and self._store is not None:
            self._store.release(held[0])

"""Counts the tokens that running sequences may hold in the key-value cache."""


class TokenBudget:
    """A number of tokens that is handed out and given back; used by one thread."""

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.num_allocated = 0

    def can_allocate(self, num_tokens: int) -> bool:
        return self.num_allocated + num_tokens <= self.capacity

    def allocate(self, num_tokens: int) -> None:
        assert self.can_allocate(num_tokens)
        self.num_allocated += num_tokens

    def deallocate(self, num_tokens: int) -> None:
        assert num_tokens <= self.num_allocated
        self.num_allocated -= num_tokens

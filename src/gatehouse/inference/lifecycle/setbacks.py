"""What went wrong with models lately, and so how soon each may be loaded again. No I/O."""

from dataclasses import dataclass, field

# A repository's commit never changes, so what could not be loaded will not load in a minute either;
# but a machine that had no memory for it may have some later.
_REFUSED_SECONDS = 30.0
_LONGEST_REFUSED_SECONDS = 900.0
# The second crash in a row waits this long, the third twice as long.
_PAUSE_SECONDS = 1.0
_LONGEST_PAUSE_SECONDS = 60.0
_FORGOTTEN_SECONDS = 300.0
# A host that ran for so long did not crash of being loaded: it is loaded again at once.
_STEADY_SECONDS = 60.0
_MAX_DEATHS_WHILE_LOADING = 3


@dataclass(slots=True)
class _Setback:
    num_in_a_row: int = 0
    last_at: float = 0.0
    not_before: float = 0.0
    refusal: str | None = None


@dataclass(eq=False)
class Setbacks:
    """Failures and crashes by model; the caller brings the time."""

    _by_key: dict[str, _Setback] = field(default_factory=dict)

    def not_before(self, key: str) -> float:
        """When the model may be loaded next; the past if nothing is wrong with it."""
        setback = self._by_key.get(key)
        return setback.not_before if setback is not None else 0.0

    def refusal(self, key: str, moment: float) -> str | None:
        """Why the model is not tried at all at this moment."""
        setback = self._by_key.get(key)
        if setback is None or moment >= setback.not_before:
            return None
        return setback.refusal

    def loaded(self, key: str) -> None:
        """It can be loaded after all. Crashes are not forgotten: they come after loading."""
        setback = self._by_key.get(key)
        if setback is not None and setback.refusal is not None:
            del self._by_key[key]

    def could_not_be_loaded(self, key: str, moment: float, reason: str) -> None:
        setback = self._count(key, moment)
        setback.refusal = reason
        pause = _REFUSED_SECONDS * 2.0 ** (setback.num_in_a_row - 1)
        setback.not_before = moment + min(pause, _LONGEST_REFUSED_SECONDS)

    def died_while_loading(self, key: str, moment: float) -> None:
        setback = self._count(key, moment)
        if setback.num_in_a_row >= _MAX_DEATHS_WHILE_LOADING:
            setback.refusal = (
                f"the process that should run it died {setback.num_in_a_row} times while loading it"
            )
            setback.not_before = moment + _REFUSED_SECONDS
        else:
            setback.not_before = moment + _pause(setback.num_in_a_row)

    def crashed(self, key: str, moment: float, ran_seconds: float) -> None:
        """Its host died after loading: the first time it is loaded again at once."""
        if ran_seconds >= _STEADY_SECONDS:
            self._by_key.pop(key, None)
        setback = self._count(key, moment)
        setback.not_before = moment + _pause(setback.num_in_a_row)

    def _count(self, key: str, moment: float) -> _Setback:
        self._forget_old(moment)
        setback = self._by_key.setdefault(key, _Setback())
        setback.num_in_a_row += 1
        setback.last_at = moment
        return setback

    def _forget_old(self, moment: float) -> None:
        """Leave out what is over."""
        self._by_key = {
            key: setback
            for key, setback in self._by_key.items()
            if moment < max(setback.not_before, setback.last_at) + _FORGOTTEN_SECONDS
        }


def _pause(num_in_a_row: int) -> float:
    if num_in_a_row == 1:
        return 0.0
    return min(_PAUSE_SECONDS * 2.0 ** (num_in_a_row - 2), _LONGEST_PAUSE_SECONDS)

"""The test kit for upcasters: what an old record is read as."""

from __future__ import annotations

import json

from rayfold.errors import DomainError
from rayfold.messages import Event
from rayfold.upcasting import Data, Upcaster, upcast


class ReadAs:
    """The events that a record is read as. Each `then…` raises `AssertionError` if they differ."""

    def __init__(self, read: list[tuple[str, Data, int]]) -> None:
        """`read` has name, data and version of each event that the record became."""
        self.read = read

    def then(self, *expected: Event) -> None:
        """Assert exactly these events, in this order, each with its class's present version."""
        assert len(self.read) == len(expected), f"{self.read} are not {list(expected)}"
        pairs = zip(self.read, expected, strict=True)
        found = [self._event(*each, as_one) for each, as_one in pairs]
        assert found == list(expected), f"{found} is not {list(expected)}"

    def then_nothing(self) -> None:
        """Assert that the record became no event."""
        self.then()

    @staticmethod
    def _event(name: str, data: Data, version: int, expected: Event) -> Event:
        known = type(expected).__rayfold__
        assert name == known.name, f"it is read as {name}, not {known.name}"
        assert version == known.version, (
            f"{name} is brought to version {version}, and is of version {known.version} today"
        )
        return known.model.model_validate_json(json.dumps(data), extra="ignore")


class GivenUpcasters:
    """Upcasters that are chained as the runtime chains them."""

    def __init__(self, *upcasters: Upcaster) -> None:
        """Take the upcasters; `when` takes records of the version that the first one reads.

        Raises:
            DomainError: two of them read the same version of the same event.
        """
        self._first = upcasters[0]
        self._steps = {(each.name, each.from_version): each for each in upcasters}
        if len(self._steps) < len(upcasters):
            raise DomainError("two upcasters read the same version of one event")

    def when(self, data: Data) -> ReadAs:
        """Read a record's data, which has the version that the first upcaster reads."""
        copy = json.loads(json.dumps(data))  # as it comes from the log, and not the test's object
        return ReadAs(upcast(self._steps, self._first.name, copy, self._first.from_version))

"""The vocabulary that a domain is written in: pure, without infrastructure.

The vocabulary is imported when one of its names is first used (PEP 562). Every import of
`rayfold.runtime` runs this module, and the event store's process and most CLI commands do not
need the vocabulary.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rayfold.vocabulary import *  # noqa: F403  # one list, there
    from rayfold.vocabulary import __all__ as __all__
else:  # hidden from type checkers, which would accept any name because of `__getattr__`

    def __getattr__(name: str) -> Any:
        vocabulary = import_module(f"{__name__}.vocabulary")
        if name != "__all__" and name not in vocabulary.__all__:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        found = globals()[name] = getattr(vocabulary, name)
        return found

    def __dir__() -> list[str]:
        return sorted({*globals(), *__getattr__("__all__")})

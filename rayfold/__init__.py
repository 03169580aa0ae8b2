"""The vocabulary that a domain is written in: pure, without infrastructure.

It is imported when one of its names is first asked for (PEP 562). Each import of `rayfold.runtime`
passes here, and the event store's process and most commands of the CLI need no vocabulary.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rayfold.vocabulary import *  # noqa: F403  # one list, there
    from rayfold.vocabulary import __all__ as __all__
else:  # a checker that saw it would take any name for one of ours

    def __getattr__(name: str) -> Any:
        vocabulary = import_module(f"{__name__}.vocabulary")
        if name != "__all__" and name not in vocabulary.__all__:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        found = globals()[name] = getattr(vocabulary, name)
        return found

    def __dir__() -> list[str]:
        return sorted({*globals(), *__getattr__("__all__")})

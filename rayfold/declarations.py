"""How a domain's declarations are checked: mistakes are collected and reported together.

A class statement does not raise for a mistake in what it declares. Each definition lists its
mistakes, and the registry reports all of them to the author together.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TypeVar, get_args, get_origin


@contextmanager
def keywords_of(cls: type, left: Mapping[str, Any]) -> Iterator[None]:
    """Run the body, which passes the remaining class keywords `left` on, and name unknown ones.

    Python's own error does not name them.

    Raises:
        TypeError: a keyword is unknown.
    """
    try:
        yield
    except TypeError as error:
        if not left:
            raise
        names = ", ".join(f"{each}=…" for each in left)
        told = f"{cls.__qualname__} has no class keyword {names}"
        raise TypeError(f"{told}; it takes {', '.join(_keywords_of(cls))}") from error


def _keywords_of(cls: type) -> Iterator[str]:
    """Yield the keywords with which the class may be declared."""
    for base in cls.__mro__[1:]:
        if isinstance(method := vars(base).get("__init_subclass__"), classmethod):
            parameters = inspect.signature(method.__func__).parameters.values()
            yield from (each.name for each in parameters if each.kind is each.KEYWORD_ONLY)


def arguments_of(cls: type, root: type) -> tuple[Any, ...]:
    """Return the type arguments of `root`, as given by the class or by a base between the two."""
    for base in getattr(cls, "__orig_bases__", ()):
        origin = get_origin(base)
        if origin is root:
            return get_args(base)
        if isinstance(origin, type) and issubclass(origin, root):
            given = dict(zip(getattr(origin, "__parameters__", ()), get_args(base), strict=False))
            return tuple(_substituted(each, given) for each in arguments_of(origin, root))
    return ()


def _substituted(argument: Any, given: Mapping[Any, Any]) -> Any:
    if isinstance(argument, type):
        return argument
    parameters = getattr(argument, "__parameters__", ())
    if not parameters:
        return given.get(argument, argument) if isinstance(argument, TypeVar) else argument
    return argument[tuple(given.get(each, each) for each in parameters)]


def misnamed(cls: type, name: object, form: re.Pattern[str], words: str) -> list[str]:
    """Return one sentence if `name` is missing or not in this form, else an empty list."""
    if isinstance(name, str) and form.match(name):
        return []
    given = f"got {name!r}" if name else "it has none"
    if getattr(cls, "__pydantic_generic_metadata__", {}).get("origin"):  # `Changed[int]`
        given += f": derive a class from it, class …({cls.__qualname__}, name=…)"
    return [f'{cls.__qualname__} needs name="…" in {words}; {given}']


def too_long(cls: type, what: str, name: str, most: int) -> list[str]:
    """Return one sentence if a name has more than `most` bytes, which Postgres would cut."""
    size = len(name.encode())
    if size <= most:
        return []
    return [f"{cls.__qualname__}: the {what} {name!r} is {size} bytes long, at most {most} fit"]


PERMISSION = re.compile(r"[a-z][a-z0-9]*([:._-][a-z0-9]+)*\Z")


def mistaken_permission(cls: type, needs: object) -> list[str]:
    """Return one sentence if `needs` is not a valid permission, else an empty list."""
    if needs == "" or (isinstance(needs, str) and PERMISSION.match(needs)):
        return []
    return [f"{cls.__qualname__}: needs=… is a permission like 'orders:refund'; got {needs!r}"]


def is_async(function: Callable[..., Any]) -> bool:
    """Return whether the result of a function has to be awaited."""
    return inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function)


def miscalled(where: str, function: Callable[..., Any], *parameters: str) -> list[str]:
    """Return a sentence if a function cannot be called with these parameters, else none."""
    if is_async(function):
        return [f"{where} is async: nothing waits for it, so take `async` away"]
    try:
        inspect.signature(function).bind(*parameters)
    except TypeError:
        return [f"{where} has to be a static method of ({', '.join(parameters)})"]
    except ValueError:  # functions written in C may have no signature
        pass
    return []

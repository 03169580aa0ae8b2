"""Load the settings and the domain and say what is wrong with them; run as a module, by `dev`.

In a process of its own: Python imports a module once, and a broken one may do anything.
"""

from __future__ import annotations

import json
import sys
from typing import Any

from deploy.errors import StartError, tell
from deploy.stack.settings import load
from rayfold import DomainError, Registry
from rayfold.runtime.middleware_layers import DomainMiddleware


def main(flags: dict[str, Any]) -> int:
    """Return 0, or 2 after a line for each mistake."""
    try:
        DomainMiddleware(Registry.load(load(**flags).domain))
    except DomainError as error:
        tell(StartError(*error.mistakes))
        return 2
    except StartError as error:
        tell(error)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(json.loads(sys.argv[1])))

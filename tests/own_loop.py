"""A test's own event loop, in place of the one that the session's tests share.

On the shared loop, servers that other tests' fixtures keep go on while a test runs. A test that
replaces a function of a standard module, or looks at all tasks, would see theirs, and change what
they do.
"""

from __future__ import annotations

import pytest

own_loop = pytest.mark.asyncio(loop_scope="function")

"""Pages of the console over the market, and the pictures of them in the docs.

`RAYFOLD_SCREENSHOTS=1` makes the pictures of docs/how-to/console/ again.
"""

from __future__ import annotations

import os

from tests.conftest import ROOT

PICTURES = ROOT / "docs/how-to/console"
ASKED_FOR = "RAYFOLD_SCREENSHOTS" in os.environ

PAGES = {
    "overview": "",
    "views": "/views",
    "view": "/views/show?view=orders",
    "parked": "/parked",
    "log": "/log",
    "event": "/log/event?stream=order-1001&revision=1",
    "aggregate": "/aggregates?stream=order-1001",
    "processes": "/processes",
    "process": "/processes/show?process=delivery&key=1002",
    "schedules": "/schedules",
    "publications": "/publications",
    "causality": "/causality?id=1@order-1002",
    "audit": "/audit",
    "access": "/access",
    "question": "/rebuild?view=orders",
}

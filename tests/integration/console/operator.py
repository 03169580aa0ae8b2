"""An operator before the console: clicks and seconds are counted, whatever goes wrong is kept."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from playwright.async_api import ConsoleMessage, Dialog, Locator, Page, Response

from tests.integration.console.pictures import ASKED_FOR, PICTURES

AXE = Path(__file__).with_name("axe.min.js").read_text()
"""Put into a page by the browser's debugger, which no content policy binds."""


class Operator:
    """Drives one page."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.clicks = 0
        self.wrongs: list[str] = []
        """Scripts that ran from data, errors of ours, refused by the content policy, dialogs."""
        self._since = 0.0
        page.on("console", self._said)
        page.on("pageerror", lambda error: self.wrongs.append(f"error: {error}"))
        page.on("dialog", self._asked)
        page.on("response", self._answered)

    def begin(self) -> None:
        """Count clicks and seconds from here."""
        self.clicks, self._since = 0, time.monotonic()

    def took(self, what: str) -> str:
        """Print and return what was counted."""
        said = f"| {what} | {self.clicks} | {time.monotonic() - self._since:.1f} s |"
        print(said)
        return said

    async def open(self, path: str) -> None:
        """Go to a page of the console."""
        await self.page.goto(f"/console{path}")

    async def go(self, name: str) -> None:
        """Go to a page by the navigation."""
        await self.click(self.page.get_by_label("Console").get_by_role("link", name=name))
        await self.page.wait_for_load_state()

    async def click(self, what: Locator) -> None:
        """Click, once it can be."""
        self.clicks += 1
        await what.click()

    async def press(self, name: str, **options: Any) -> None:
        """Click a button, or a link that looks like one."""
        page = self.page
        link = page.get_by_role("link", name=name, **options)
        await self.click(page.get_by_role("button", name=name, **options).or_(link).first)

    async def confirm(self, name: str) -> None:
        """Click what the dialog asks for."""
        dialog = self.page.get_by_role("dialog")
        await self.click(dialog.get_by_role("button", name=name, exact=True))

    async def sees(self, text: str, *, timeout: float = 60.0) -> None:
        """Wait until it is to be seen."""
        found = self.page.get_by_text(text).filter(visible=True).first
        await found.wait_for(timeout=timeout * 1000)

    async def picture(self, name: str, *, whole: bool = False) -> None:
        """Make the page's picture for the docs, if those are asked for."""
        if ASKED_FOR:
            await self.page.screenshot(path=PICTURES / f"{name}.png", full_page=whole)

    async def faults(self, rules: dict[str, Any]) -> list[str]:
        """Return the serious faults of accessibility on the page, as axe-core finds them."""
        if not await self.page.evaluate("'axe' in window"):
            await self.page.evaluate(f"(() => {{ {AXE} }})()")
        found: list[dict[str, Any]] = await self.page.evaluate(
            """async (runOnly) => {
                const { violations } = await window.axe.run(document, { runOnly });
                const why = ({ target, any, all, none }) =>
                    `${target} ${[...any, ...all, ...none].map((each) => each.message)[0]}`;
                return violations.map(({ id, impact, nodes }) => (
                    { id, impact, where: nodes.slice(0, 3).map(why) }));
            }""",
            rules,
        )
        grave = [each for each in found if each["impact"] in ("serious", "critical")]
        return [f"{each['id']}: {each['where']}" for each in grave]

    def _said(self, message: ConsoleMessage) -> None:
        # What is refused with 4xx is told by the browser too; that is looked at where it happens.
        if message.type == "error" and "Failed to load resource" not in message.text:
            self.wrongs.append(f"console: {message.text}")

    async def _asked(self, dialog: Dialog) -> None:
        self.wrongs.append(f"dialog: {dialog.message}")
        await dialog.dismiss()

    def _answered(self, response: Response) -> None:
        if response.status >= 500:
            self.wrongs.append(f"{response.status}: {response.url}")

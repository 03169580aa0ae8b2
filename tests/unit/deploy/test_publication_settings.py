"""Where publications go: what does not fit is one line, before anything is started."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from deploy.errors import StartError
from deploy.stack.publishing import check, configured
from deploy.stack.settings import load
from projections.publications.settings import NatsTarget, WebhookTarget
from rayfold import Registry
from tests.stack import rayfold

SECRET = "whsec_" + "c2VjcmV0LXNlY3JldC1zZWNyZXQtc2VjcmV0IQ=="
ROOT = Path(__file__).resolve().parents[3]

FILE = f"""
source = "https://shop.example"

[publications.order-news]
url = "https://partner.example/hooks"
secret = "{SECRET}"
previous_secret = "{SECRET}"
park_after = 60

[publications.stock-news]
nats = ["nats://rayfold:hidden@127.0.0.1:4222", "tls://nats.example:4222"]
subject = "shop.stock"
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a working folder without settings."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("RAYFOLD_PUBLICATIONS", raising=False)
    return tmp_path


def test_targets_come_from_the_file_and_no_secret_is_shown(folder: Path) -> None:
    (folder / "rayfold.toml").write_text(FILE)
    settings = load()
    news, stock = (configured(settings)[name] for name in ("order-news", "stock-news"))
    assert isinstance(news.target, WebhookTarget)
    assert [each.get_secret_value() for each in news.target.secrets] == [SECRET] * 2
    assert news.source == "https://shop.example"
    assert news.patience.park_after == 60
    assert isinstance(stock.target, NatsTarget)
    assert stock.target.shown == "nats://127.0.0.1:4222,nats.example:4222/shop.stock"
    for shown in (repr(settings), repr(news), repr(stock), news.target.shown):
        assert "hidden" not in shown
        assert SECRET not in shown


def test_another_target_makes_another_actor(folder: Path) -> None:
    (folder / "rayfold.toml").write_text(FILE)
    one = configured(load())["order-news"]
    (folder / "rayfold.toml").write_text(FILE.replace("whsec_c2Vj", "whsec_b2Vj"))
    other = configured(load())["order-news"]
    assert one.digest != other.digest


WEBHOOK = {"url": "https://a.example/", "secret": SECRET}
NATS = {"nats": ["nats://a.example:4222"], "subject": "a"}


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({}, "needs either url (of a webhook) or nats"),
        (WEBHOOK | NATS, "needs either url (of a webhook) or nats"),
        ({"url": "https://a.example/"}, "a webhook needs a secret to sign with"),
        (WEBHOOK | {"url": "http://a.example/"}, "url is not an https URL, or http with private"),
        (
            WEBHOOK | {"url": "ftp://a.example/", "private_addresses": True},
            "url is not an https URL",
        ),
        (WEBHOOK | {"url": "https://"}, "url is not an https URL"),
        (WEBHOOK | {"url": "hooks"}, "url is not an https URL"),
        (WEBHOOK | {"url": "https://a.example:99999/"}, "url is not an https URL"),
        (WEBHOOK | {"url": "https://a.example:0/"}, "url is not an https URL"),
        (WEBHOOK | {"url": "https://[::1/"}, "url is not an https URL"),
        (WEBHOOK | {"url": "https://u:p@a.example/"}, "must have no user"),
        (WEBHOOK | {"url": "https://a.example/#x"}, "must have no user"),
        (WEBHOOK | {"url": "https://a.example/ü"}, "must have no user"),
        (WEBHOOK | {"url": "https://a.example/a b"}, "must have no user"),
        (WEBHOOK | {"secret": "secret"}, "secret must be whsec_ and 24 to 64 bytes"),
        (WEBHOOK | {"secret": "whsec_YQ=="}, "secret must be whsec_ and 24 to 64 bytes"),
        (WEBHOOK | {"previous_secret": "whsec_***"}, "previous_secret must be whsec_"),
        (WEBHOOK | {"subject": "a"}, "subject and credentials are for nats"),
        (WEBHOOK | {"timeout": 0}, "greater than 0"),
        (WEBHOOK | {"colour": "red"}, "there is no setting"),
        (NATS | {"subject": None}, "subject must be words joined by dots"),
        (NATS | {"subject": "a.*"}, "subject must be words joined by dots"),
        (NATS | {"nats": ["a.example:4222"]}, "nats must have URLs like nats://host:4222"),
        (NATS | {"secret": SECRET}, "secret and private_addresses are for a url"),
    ],
)
def test_an_invalid_setting_is_one_sentence(given: dict[str, Any], said: str) -> None:
    with pytest.raises(StartError) as caught:
        load(publications={"news": given})
    assert "publications.news" in str(caught.value)
    assert said in str(caught.value)
    assert SECRET not in str(caught.value)


def test_an_unknown_publication_is_reported_with_the_existing_ones() -> None:
    settings = load(publications={"order-mews": WEBHOOK})
    with pytest.raises(StartError, match=r"order-mews.*: order-news"):
        check(settings, Registry.load("domain"))


def test_rayfold_up_reports_it_in_one_line(tmp_path: Path) -> None:
    result = subprocess.run(
        [*rayfold(), "up", "--domain", "domain", "--data", str(tmp_path / "data")],
        cwd=ROOT,
        env={**os.environ, "RAYFOLD_PUBLICATIONS": '{"order-news": {"url": "hooks.example"}}'},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert result.returncode == 2
    [said] = [line for line in result.stderr.splitlines() if line.startswith("rayfold: ")]
    assert "publications.order-news" in said
    assert "Traceback" not in result.stderr

"""Settings: from flags, then `RAYFOLD_*`, then `rayfold.toml`."""

from __future__ import annotations

import importlib.util
import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    SettingsError,
    TomlConfigSettingsSource,
)

from deploy.errors import StartError

REFERENCE_DOMAIN = f"{__name__.removesuffix('deploy.stack.settings')}domain"
"""Orders and stock: under `rayfold.` where a wheel was installed."""


Kind = Literal["write", "dedicated", "memory", "postgres"]


class TokenSettings(BaseModel):
    """A bearer token, and what its bearer may do; each role includes those before it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    token: Annotated[SecretStr, Field(min_length=16)]
    role: Literal["reader", "writer", "operator"]


class Settings(BaseSettings):
    """How one stack runs. What has no address is started by Rayfold itself."""

    model_config = SettingsConfigDict(
        env_prefix="RAYFOLD_", toml_file="rayfold.toml", extra="forbid"
    )

    stack: str = Field(default="rayfold", pattern=r"^[a-z][a-z0-9-]{0,62}$")
    """The stack's name, which is its namespace in Ray: its database is for that name alone."""
    url: str | None = Field(default=None, pattern=r"^https?://[^/]+")
    """Of the gateway that the command line asks; that of the data folder without it."""
    host: str = "127.0.0.1"
    port: int = Field(default=8000, ge=1, le=65535)
    data: Path = Path(".rayfold")
    domain: str = Field(default_factory=lambda: _default_domain())
    """The package that declares commands, events, aggregates, views and queries."""
    eventstore: str | None = None
    postgres: str | None = None
    ray_address: str | None = None
    write_hosts: int = Field(default=1, ge=1, le=64)
    memory_replicas: int = Field(default=1, ge=1, le=64)
    postgres_partitions: int = Field(default=1, ge=1, le=64)
    postgres_reads: list[str] = []
    """DSNs of streaming replicas that answer queries."""
    autoscale: dict[str, tuple[int, int]] = {}
    """The least and the most for targets of `rayfold scale`: `{"memory": [1, 4]}`."""
    dedicated_actors: int = Field(default=24, ge=1)
    claims: dict[Kind, dict[str, Annotated[float, Field(ge=0)]]] = {}
    """What a part claims of its node, by its kind: `{"write": {"CPU": 0.5, "writers": 0.1}}`, CPUs
    and custom resources of Ray's. Without it 0.1 of a CPU (dedicated actors 0.01) on a cluster, and
    nothing on Ray of our own."""
    runtime_env: dict[str, Any] = {}
    """Ray's, for all parts: `{"working_dir": "."}` or `{"py_modules": ["shop"]}` bring a domain to
    nodes that do not have it."""
    tokens: dict[str, TokenSettings] = {}
    """By the name of their bearer, which is the principal on events. Without any, everybody may
    call who reaches the gateway, which then listens on loopback alone."""
    hosts: list[str] = []
    """Names under which browsers reach the gateway, beside loopback ones and addresses."""
    token: SecretStr | None = None
    """What the command line shows a gateway; the first operator's of `tokens` without it."""

    @property
    def own_token(self) -> str | None:
        """The token of the command line; None if there is none to show."""
        if self.token is not None:
            return self.token.get_secret_value()
        operators = (each for each in self.tokens.values() if each.role == "operator")
        first = next(operators, None)
        return first.token.get_secret_value() if first is not None else None

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Take flags, environment, file; the first that says something counts."""
        return init_settings, env_settings, TomlConfigSettingsSource(settings_cls)


def _default_domain() -> str:
    """Return the user's own package `domain`, or the reference domain where there is none."""
    return "domain" if importlib.util.find_spec("domain") else REFERENCE_DOMAIN


def load(**flags: Any) -> Settings:
    """Return the settings in force; flags that are None were not given.

    Raises:
        StartError: one of them does not fit; the message names it.
    """
    try:
        return Settings(**{name: value for name, value in flags.items() if value is not None})
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        name = ".".join(str(part) for part in first["loc"])
        raise StartError(f"setting {name}: {first['msg']}") from error
    except (SettingsError, tomllib.TOMLDecodeError, OSError) as error:
        raise StartError(f"the settings cannot be read: {error}") from error

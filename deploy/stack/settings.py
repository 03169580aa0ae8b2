"""Settings: from flags, then `RAYFOLD_*`, then `rayfold.toml`."""

from __future__ import annotations

import importlib.util
import os
import re
import tomllib
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

import limits
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
    ValidationError,
    ValidationInfo,
    field_validator,
)
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

from deploy.errors import StartError
from deploy.stack.publication_settings import PublicationSettings
from rayfold.declarations import PERMISSION
from rayfold.foreign_json import UNREADABLE
from rayfold.tenants import NAME as TENANT_NAME

REFERENCE_DOMAIN = f"{__name__.removesuffix('deploy.stack.settings')}domain"
"""Orders and stock: under `rayfold.` where a wheel was installed."""


Kind = Literal["write", "dedicated", "memory", "postgres", "process"]

RoleName = Literal["reader", "writer", "operator"]

Permission = Annotated[str, Field(pattern=PERMISSION.pattern.replace("\\Z", "$"))]

_KEY_SET = r"^(https://[^/]+|http://(localhost|127\.0\.0\.1|\[::1\])(:[0-9]+)?)/"


_FILE = Path("rayfold.toml")

EMBEDDED = "embedded"
"""As an address: a server of our own, for which one has to be installed."""


_HOSTS = re.compile(r"(\[[^\]]*\]|[^:\[\],]*)(:[0-9]*)?(,|\Z)")


def _address(text: str) -> str:
    """Check that it can be taken apart; what clients say of it has the password in it."""
    try:
        parts = urlsplit(text)
    except ValueError:
        raise ValueError("not a valid URL: check its brackets and letters") from None
    if "@" in text and "@" not in parts.netloc and _HOSTS.sub("", parts.netloc):
        raise ValueError("not a valid URL: in a password write %2F for /, %3F for ?, %23 for #")
    return text


Address = Annotated[str, AfterValidator(_address)]

Server = Annotated[Address, Field(min_length=1)]
"""An empty variable is refused: without it another server would be taken, one of our own say."""


def _redis(text: str | None) -> str | None:
    """Check an address of Redis; an empty variable says nothing."""
    if text and text != EMBEDDED and not text.startswith(("redis://", "rediss://", "unix://")):
        raise ValueError("embedded, or a URL: redis://, rediss:// or unix://")
    return text or None


def _folder(given: Any) -> Any:
    # The first is an empty variable; as a path it would be the working folder.
    if given == "" or (isinstance(given, str) and "\0" in given):
        raise ValueError("is not the name of a folder")
    if not isinstance(given, str):
        return given
    # In a file, and in most variables, no shell has done that.
    expanded = os.path.expanduser(given)
    if expanded != given and os.path.lexists(given):
        # Else a stack that has its log there would begin with an empty one.
        raise ValueError(
            f"./{given} exists, which older versions used: move it to {expanded},"
            f" or write ./{given}"
        )
    return expanded


Folder = Annotated[Path, BeforeValidator(_folder)]


def _bounds(bounds: tuple[int, int]) -> tuple[int, int]:
    least, most = bounds
    if least > most:
        raise ValueError("the smallest number must come first")
    return bounds


Bounds = Annotated[tuple[int, int], AfterValidator(_bounds)]

Claim = Annotated[float, Field(ge=0, le=1e14)]
"""Of a resource of Ray's, which counts it in ten-thousandths, in 64 bits."""


_TokenName = Annotated[str, Field(pattern=r"^[^\x00-\x1f\x7f]{1,200}$")]
"""It is in the metadata of events, in logs and on pages: one line."""


SHORTEST_TOKEN = 16


def _rate(text: str) -> str:
    limits.parse(text)
    return text


def _long_enough(token: SecretStr) -> SecretStr:
    if len(token.get_secret_value()) < SHORTEST_TOKEN:
        raise ValueError(f"a token has at least {SHORTEST_TOKEN} characters")
    return token


class TokenSettings(BaseModel):
    """A bearer token, and what its bearer may do. Each role includes the roles before it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    token: Annotated[SecretStr, AfterValidator(_long_enough)]
    """The token that clients send: 16 characters at least."""
    role: RoleName
    permissions: list[Permission] = []
    """Permissions that commands and queries ask for with `needs`. Operators have all of them."""
    tenant: Annotated[str, Field(pattern=rf"^(\*|{TENANT_NAME})$")] | None = None
    """The tenant of its bearer, if the stack serves tenants. With `*` the bearer belongs to none,
    and names a tenant with each request, as operators do."""


def _told_apart(tokens: dict[str, TokenSettings]) -> dict[str, TokenSettings]:
    first: dict[str, str] = {}
    for name, each in tokens.items():
        other = first.setdefault(each.token.get_secret_value(), name)
        if other != name:
            raise ValueError(f"{other!r} and {name!r} have the same token: give each its own")
    return tokens


class JwtSettings(BaseModel):
    """An identity provider, whose signed tokens (RFC 7519) are accepted beside those of
    `tokens`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    issuer: Annotated[str, Field(min_length=1)]
    """The `iss` of its tokens."""
    audience: Annotated[str, Field(min_length=1)]
    """The `aud` that stands for this stack."""
    jwks: Annotated[str, Field(pattern=_KEY_SET)]
    """The URL of its public keys: https, or on this machine."""
    principal_claim: str = "sub"
    """The claim that becomes the principal on events."""
    role_claim: str = "roles"
    """The claim with the roles: a list, or words as in `scope`. `realm_access.roles` is a nested
    claim."""
    permission_claim: str = "permissions"
    """The claim with the permissions: a list, or words. Commands and queries ask for them by
    `needs`."""
    tenant_claim: Annotated[str, Field(min_length=1)] | None = None
    """The claim with the tenant of a token's bearer, if the stack serves tenants."""
    roles: dict[RoleName, list[str]] = {}
    """The values of the claim that stand for each role. By default, the names of the roles."""


class Settings(BaseSettings):
    """How one stack runs. What has no address is started by Rayfold itself."""

    model_config = SettingsConfigDict(env_prefix="RAYFOLD_", toml_file=_FILE, extra="forbid")

    stack: str = Field(default="rayfold", pattern=r"^[a-z][a-z0-9-]{0,62}$")
    """The stack's name, which is its namespace in Ray. A database belongs to one name."""
    url: str | None = Field(default=None, pattern=r"^https?://[^/]+")
    """The gateway that the command line asks. By default, the one that runs on the data folder."""
    host: str = "127.0.0.1"
    """The address that the gateway listens on. Without tokens it has to be loopback."""
    port: int = Field(default=8000, ge=1, le=65535)
    data: Folder = Path(".rayfold")
    """The folder for what Rayfold starts itself: event store, Postgres, Redis, Ray."""
    domain: str = Field(default_factory=lambda: _default_domain())
    """The package that declares commands, events, aggregates, views and queries. By default the
    package `domain`, or the reference domain if there is none."""
    eventstore: Server | None = None
    """The URI of a KurrentDB or EventStoreDB. Without it, the embedded store is started."""
    postgres: Server | None = None
    """The DSN of a Postgres. Without it, Rayfold starts one."""
    redis: Annotated[Address | None, AfterValidator(_redis)] = None
    """The URL of a Redis or Valkey for views that name `redis`. `embedded` starts an installed
    `redis-server` or `valkey-server`. Without the setting, `rayfold up` does so if a view names
    `redis` and one is installed."""
    stores: dict[str, str] = {}
    """URLs of read stores of other packages, by the name that views use."""
    ray_address: Server | None = None
    """`HOST:PORT` of the head of a Ray cluster. Without it, Rayfold starts Ray."""
    snapshots: Folder | None = None
    """A folder on every node, in which memory replicas keep snapshots of views that are in no other
    store, so that a restart does not fold the whole log for them. It holds the rows of those views,
    erased rows for a minute longer. If Rayfold starts Ray, the folder is in the data folder; on a
    cluster there is none without this setting."""
    write_hosts: int = Field(default=1, ge=1, le=64)
    """The number of write hosts at the start. For this and the next two settings, a number that
    `rayfold scale` has set takes precedence."""
    memory_replicas: int = Field(default=1, ge=1, le=64)
    """The number of actors that keep the views in memory."""
    postgres_partitions: int = Field(default=1, ge=1, le=64)
    """The number of projectors that share the keys of the views in Postgres."""
    postgres_reads: list[Server] = []
    """DSNs of streaming replicas that answer queries."""
    autoscale: dict[str, Bounds] = {}
    """The minimum and maximum for targets of `rayfold scale`: `{"memory": [1, 4]}`."""
    dedicated_actors: int = Field(default=24, ge=1)
    """The maximum of dedicated actors, each of which is the writer of one aggregate: a process of
    55 MB."""
    claims: dict[Kind, dict[str, Claim]] = {}
    """The resources that a part claims on its node, by its kind: CPUs and custom resources of Ray,
    as in `{"write": {"CPU": 0.5, "writers": 0.1}}`. By default 0.1 of a CPU (0.01 for dedicated
    actors) on a cluster, and nothing if Rayfold starts Ray."""
    runtime_env: dict[str, Any] = {}
    """Ray's runtime environment for all parts. `{"working_dir": "."}` or `{"py_modules": ["shop"]}`
    bring a domain to nodes that do not have it."""
    publications: dict[str, PublicationSettings] = {}
    """Where each publication of the domain goes, by its name. One without an entry does not run."""
    source: str = Field(default="", pattern=r"^[!-~]*$")
    """The `source` of CloudEvents, a URI. By default `/STACK`."""
    tokens: Annotated[dict[_TokenName, TokenSettings], AfterValidator(_told_apart)] = {}
    """Tokens by the name of their bearer, which becomes the principal on events. Without any token,
    everybody who can reach the gateway may call it, and the gateway listens on loopback alone."""
    hosts: list[str] = []
    """Names under which browsers (and without tokens programs too) may reach the gateway, in
    addition to IP addresses and to loopback and private names."""
    jwt: JwtSettings | None = None
    """An identity provider, whose tokens are accepted too."""
    rates: dict[str, Annotated[str, AfterValidator(_rate)]] = {}
    """How many requests a principal may send to one gateway, as in `{"web": "200/second"}`.
    `default` is for each other principal, or for each address if nobody needs a token."""
    tenant_rates: dict[str, Annotated[str, AfterValidator(_rate)]] = {}
    """How many requests all callers together may send to one gateway for a tenant, as in
    `{"acme": "500/second"}`. `default` is for each other tenant."""
    tenants: bool = Field(default=False, validate_default=True)
    """Whether the stack serves tenants. Then each aggregate, row and process belongs to one tenant,
    and each command and query is for one. It is chosen when a stack begins, and cannot change."""
    log_format: Literal["text", "json"] = "text"
    """How processes log to standard error: lines for people, or one JSON object a line, with the
    ids of commands and traces."""
    token: SecretStr | None = None
    """The token that the command line sends. By default, the first operator's in `tokens`."""

    @field_validator("tenants")
    @classmethod
    def _check_tenants(cls, tenants: bool, info: ValidationInfo) -> bool:
        tokens: dict[str, TokenSettings] = info.data.get("tokens", {})
        jwt: JwtSettings | None = info.data.get("jwt")
        claimed = jwt is not None and jwt.tenant_claim is not None
        if not tenants and (claimed or any(each.tenant for each in tokens.values())):
            raise ValueError(
                "a token has a tenant, but the stack serves none, so its bearer would see"
                " everything: set tenants = true"
            )
        for name, each in tokens.items():
            if each.role == "operator" and each.tenant not in (None, "*"):
                raise ValueError(f"the token {name!r} is an operator's, so it cannot have a tenant")
        return tenants

    @property
    def snapshots_of_nodes(self) -> str:
        """The folder for snapshots on each node; empty if there is none."""
        if self.snapshots is not None:
            return str(self.snapshots.absolute())
        return "" if self.ray_address else str((self.data / "snapshots").absolute())

    @property
    def is_open(self) -> bool:
        """Whether nobody needs a token."""
        return not self.tokens and self.jwt is None

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


def _check_file() -> None:
    """Look whether the file, if there is a thing of its name, is one: else it would not be read.

    A container engine makes a folder of a file that it is to mount and does not find.

    Raises:
        OSError: it is a folder, or a link to nothing.
    """
    if _FILE.is_dir():
        raise IsADirectoryError(f"{_FILE} is a folder")
    if _FILE.is_symlink() and not _FILE.exists():
        raise FileNotFoundError(f"{_FILE} is a link to a file that does not exist")


def load(**flags: Any) -> Settings:
    """Return the settings in force; flags that are None were not given.

    Raises:
        StartError: one of them does not fit; the message names it.
    """
    try:
        _check_file()
        return Settings(**{name: value for name, value in flags.items() if value is not None})
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        name = ".".join(str(part) for part in first["loc"])
        if first["type"] == "extra_forbidden":
            near = get_close_matches(name, Settings.model_fields, n=1)
            meant = f": is it {near[0]}?" if near else ""
            raise StartError(f"there is no setting {name}{meant}") from error
        told = first["msg"].removeprefix("Value error, ")
        raise StartError(f"setting {name}: {told}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise StartError(f"rayfold.toml cannot be read: {error}") from error
    except (OSError, *UNREADABLE) as error:  # also what no text is, and no JSON in a variable
        raise StartError(f"the settings cannot be read: {error}") from error

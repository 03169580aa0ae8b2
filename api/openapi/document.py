"""The OpenAPI document: made of the domain's own models, once, when the gateway starts."""

from __future__ import annotations

from typing import Any

from litestar.openapi.spec import Components, Info, OpenAPI, PathItem, SecurityScheme, Server, Tag

from api.openapi.bodies import BODIES
from api.openapi.domain_paths import DomainPaths, tag_of
from api.openapi.gateway_paths import GatewayPaths
from api.openapi.names import OperationIds
from api.openapi.operations import TENANT
from api.openapi.schemas import Schemas
from api.operators.routes import REQUESTS
from rayfold import Registry

_TAGS = {
    "commands": "Send a command by its name, and ask for its status",
    "queries": "Ask a query by its name",
    "health": "Health checks for load balancers and orchestrators",
    "operators": "The state of the stack, and what operators can do",
}

_SWITCHES = {"deprecated", "required", "allowEmptyValue", "allowReserved"}


def openapi(registry: Registry, *, secured: bool = False) -> dict[str, Any]:
    """Return the OpenAPI 3.1 document of a domain.

    `secured`: there are tokens, and most operations need one.
    """
    schemas = Schemas(registry, [*BODIES, *REQUESTS])
    ids = OperationIds()
    paths: dict[str, PathItem] = {}
    DomainPaths(registry, schemas, ids).add_to(paths)
    of_domain = [*paths, "/commands/{command_id}"]
    GatewayPaths(ids).add_to(paths)
    for path in of_domain if registry.tenants else ():
        paths[path].parameters = [TENANT]
    declared = dict.fromkeys(tag_of(route.path) for route in registry.routes)
    bearer = SecurityScheme("http", "One of the tokens that the gateway was started with")
    bearer.scheme = "bearer"
    document = OpenAPI(
        Info("Rayfold", "1", description="Commands give receipts; queries read finished folds."),
        servers=[Server("/", "This gateway")],
        paths=paths,
        components=Components(schemas=schemas.all, security_schemes={"bearer": bearer}),
        security=[{"bearer": []}] if secured else [{}, {"bearer": []}],
        tags=[Tag(name, _TAGS.get(name)) for name in dict.fromkeys([*declared, *_TAGS])],
    )
    plain: dict[str, Any] = _without_defaults(document.to_schema())
    return plain


def _without_defaults(value: Any) -> Any:
    """Return it without flags at their default, of which Litestar writes a dozen for each route."""
    if isinstance(value, dict):
        return {
            key: _without_defaults(each)
            for key, each in value.items()
            if each is not False or key not in _SWITCHES
        }
    return [_without_defaults(each) for each in value] if isinstance(value, list) else value

"""Who may call a gateway: from the settings, in the application's form."""

from __future__ import annotations

from typing import TYPE_CHECKING

from deploy.stack.settings import JwtSettings, RoleName, Settings

if TYPE_CHECKING:
    from api.http.admission import Admission
    from api.http.signed_tokens import JwtTokens


_ROLES: tuple[RoleName, ...] = ("reader", "writer", "operator")


def admission_of(settings: Settings) -> Admission:
    """Return the admission rules of the settings."""
    from api.http.admission import Admission
    from api.http.auth import Role, Token
    from api.http.rates import Rates

    return Admission(
        tokens=[
            Token(
                name,
                each.token.get_secret_value(),
                Role[each.role.upper()],
                frozenset(each.permissions),
                each.tenant or "",
            )
            for name, each in settings.tokens.items()
        ],
        signed=_signed(settings.jwt) if settings.jwt else None,
        rates=Rates(settings.rates, settings.tenant_rates),
        hosts=settings.hosts,
    )


def _signed(jwt: JwtSettings) -> JwtTokens:
    from api.http.auth import Role
    from api.http.signed_tokens import JwtClaims, JwtTokens
    from api.http.signing_keys import SigningKeys

    said = jwt.roles or {role: [role] for role in _ROLES}
    claims = JwtClaims(
        jwt.issuer,
        jwt.audience,
        jwt.principal_claim,
        jwt.role_claim,
        jwt.permission_claim,
        # If one value stands for several roles, the highest role counts.
        {value: Role[role.upper()] for role in _ROLES for value in said.get(role, ())},
        jwt.tenant_claim or "",
    )
    return JwtTokens(claims, SigningKeys(jwt.jwks))

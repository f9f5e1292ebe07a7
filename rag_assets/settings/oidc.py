"""Logins by an OpenID Connect provider."""

from __future__ import annotations

from ipaddress import ip_address
from urllib.parse import urlsplit

from pydantic import BaseModel, Field, ValidationInfo, field_validator

from rag_assets.settings.web_address import is_web_address


class OidcSettings(BaseModel):
    """The provider that users may log in at. It needs the extra oidc."""

    oidc_client_id: str = Field(
        default="",
        description="The client id that the OpenID Connect provider gave to this service.",
    )
    oidc_client_secret: str = Field(
        default="", description="Its secret; empty: a public client, which PKCE alone protects."
    )
    oidc_redirect_url: str = Field(
        default="",
        description="The page of your application to which the provider sends users back. It posts the code here.",
        validate_default=True,
    )
    oidc_issuer: str = Field(
        default="",
        description="The issuer of the OpenID Connect provider, such as https://login.example; empty: no such logins.",
    )

    @field_validator("oidc_redirect_url", "oidc_issuer", mode="after")
    @classmethod
    def _require_secure_address(cls, value: str) -> str:
        if not value:
            return value
        if not is_web_address(value) or "#" in value:
            raise ValueError("expected https:// with a host, such as https://login.example")
        parts = urlsplit(value)
        if parts.scheme != "https" and not _is_loopback(parts.hostname or ""):
            raise ValueError("expected https://, or http:// to this machine: tokens travel there")
        return value

    @field_validator("oidc_issuer", mode="after")
    @classmethod
    def _require_client(cls, value: str, info: ValidationInfo) -> str:
        missing = [
            f"RAG_{name.upper()}"
            for name in ("oidc_client_id", "oidc_redirect_url")
            if value and name in info.data and not info.data[name]
        ]
        if missing:
            raise ValueError(f"this needs {' and '.join(missing)}")
        return value


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False

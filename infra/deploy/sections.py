"""The configuration file's sections, as far as their shape goes."""

from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from infra.deploy.templates import as_text


def _as_text(value: object) -> str:
    """As the parameters of CloudFormation and the variables of an environment take it."""
    scalars = value if isinstance(value, list) else [value]
    if not all(isinstance(each, str | int | float) for each in scalars):
        raise ValueError("must be text, a number, a boolean or a list of these")
    return as_text(value)


_Text = Annotated[str, BeforeValidator(_as_text)]
_STRICT = ConfigDict(frozen=True, extra="forbid")


class FunctionSettings(BaseModel):
    """What Lambda gives a function; unset is what .chalice/config.json says."""

    model_config = _STRICT

    memory: int | None = Field(None, ge=128, le=10_240)
    timeout: int | None = Field(None, ge=1, le=900)
    reserved_concurrency: int | None = Field(None, ge=1)


class ApiSettings(BaseModel):
    """How a private REST API (the parameter PrivateApi) is reached.

    A new VPC has an endpoint for it; of an existing VPC, its execute-api endpoints are named here.
    """

    model_config = _STRICT

    vpc_endpoints: tuple[Annotated[str, Field(pattern=r"^vpce-[0-9a-f]+$")], ...] = ()


class ImageSettings(BaseModel):
    """How the image is built, or the ``uri`` of one that was built elsewhere.

    The build argument BASE may name a mirror's copy of the base image; ``pip_conf`` is pip's
    settings for the build, where packages come from a mirror.
    """

    model_config = _STRICT

    uri: str | None = None
    build_args: dict[str, str] = {}
    pip_conf: Path | None = None


class File(BaseModel):
    """All of it; what the parameters may be, the templates say."""

    model_config = _STRICT

    region: str | None = None
    parameters: dict[str, _Text] = {}
    functions: dict[str, FunctionSettings] = {}
    environment: dict[str, _Text] = {}
    api: ApiSettings = ApiSettings()
    image: ImageSettings = ImageSettings()

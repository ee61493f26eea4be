"""JSON that Hub clients send.

Unknown keys are ignored, as newer clients send keys we have no use for.
"""

from typing import Literal

from pydantic import BaseModel, Field

RepoType = Literal["model", "dataset", "space"]
VisibilityName = Literal["public", "private"]


class CreateRepo(BaseModel):
    """Body of `POST /api/repos/create`. Old clients send `private`, new ones `visibility`."""

    name: str = Field(min_length=1, max_length=200)
    organization: str | None = None
    type: RepoType | None = None
    visibility: VisibilityName | None = None
    private: bool | None = None

    @property
    def wants_private(self) -> bool:
        return self.visibility == "private" or (self.visibility is None and bool(self.private))


class DeleteRepo(BaseModel):
    """Body of `DELETE /api/repos/delete`."""

    name: str = Field(min_length=1, max_length=200)
    organization: str | None = None
    type: RepoType | None = None


class MoveRepo(BaseModel):
    """Body of `POST /api/repos/move`."""

    fromRepo: str = Field(min_length=1, max_length=200)  # noqa: N815  (the wire's name)
    toRepo: str = Field(min_length=1, max_length=200)  # noqa: N815
    type: RepoType | None = None


class RepoSettings(BaseModel):
    """Body of `PUT /api/{kind}/{repo}/settings`."""

    visibility: VisibilityName | None = None
    private: bool | None = None
    gated: Literal["auto", "manual", False] | None = None


class PreuploadFile(BaseModel):
    path: str = Field(min_length=1, max_length=1024)
    size: int = Field(ge=0)
    sample: str = Field(default="", max_length=4096)


class Preupload(BaseModel):
    """Body of `POST …/preupload/{revision}`."""

    files: list[PreuploadFile] = Field(max_length=1000)
    gitIgnore: str | None = Field(default=None, max_length=1024 * 1024)  # noqa: N815
    gitAttributes: str | None = Field(default=None, max_length=1024 * 1024)  # noqa: N815


class ValidateYaml(BaseModel):
    """Body of `POST /api/validate-yaml`."""

    content: str
    repoType: str | None = None  # noqa: N815


class HandleAccessRequest(BaseModel):
    """Body of `POST …/user-access-request/handle`."""

    user: str | None = None
    requestId: int | str | None = None  # noqa: N815
    status: Literal["pending", "accepted", "rejected"]
    rejectionReason: str | None = None  # noqa: N815


class GrantAccess(BaseModel):
    """Body of `POST …/user-access-request/grant`."""

    user: str = Field(min_length=1, max_length=200)

"""Everything an operator can set, read once from the environment or the command line.

Only `cli` and `server` create `Settings`; lower rooms take plain values. A field `port` is set by
the environment variable `GATEHOUSE_PORT`.
"""

import re
from ipaddress import ip_network
from pathlib import Path

from pydantic import Field, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

_MIB = 1024 * 1024
_HOST_NAME = re.compile(r"(?:[a-z0-9](?:[a-z0-9\-]{0,61}[a-z0-9])?\.)+[a-z]{2,63}")


def split_names(text: str) -> tuple[str, ...]:
    """Names in lower case, as given with commas between them."""
    return tuple(name for part in text.split(",") if (name := part.strip().lower()))


class Settings(BaseSettings):
    model_config = SettingsConfigDict(env_prefix="GATEHOUSE_", frozen=True)

    data_dir: Path = Field(
        Path("data"), description="Folder that holds everything Gatehouse keeps."
    )
    host: str = Field("127.0.0.1", description="Address to listen on.")
    port: int = Field(8080, ge=0, le=65535, description="Port to listen on.")
    workers: int = Field(1, ge=1, le=64, description="Hub worker processes.")
    public_url: str | None = Field(
        None, description="Base URL clients use; without it the request's own host is taken."
    )
    database_url: str | None = Field(
        None, description="SQLAlchemy URL; without it a SQLite file in the data folder."
    )
    supervisor_socket: Path | None = Field(
        None, description="Unix socket of the supervisor; without it nothing can be run."
    )
    metrics_dir: Path | None = Field(
        None,
        description="Folder in which hub workers share what they count; `gatehouse serve` sets it.",
    )
    allow_signup: bool = Field(True, description="Whether strangers may create an account.")
    max_regular_file_bytes: int = Field(
        10 * _MIB, description="Largest file a git push may hold outside LFS."
    )
    lfs_threshold_bytes: int = Field(
        1 * _MIB,
        description="From this size on the commit API asks clients to upload by LFS or Xet.",
    )
    max_commit_body_bytes: int = Field(
        256 * _MIB, description="Largest body of one commit request."
    )
    max_file_bytes: int = Field(200 * 1024 * _MIB, description="Largest single file.")
    xet_downloads: bool = Field(
        True, description="Whether files that arrived by Xet are offered for download by Xet."
    )
    model_memory_bytes: int | None = Field(
        None, description="Memory that loaded models may use; without it, half of the machine's."
    )
    model_idle_seconds: float = Field(600.0, description="A model unused for so long is unloaded.")
    vllm: str | None = Field(
        None,
        description="Program that starts vLLM; without it `vllm` beside this Python or in `PATH`.",
    )
    vllm_arguments: str = Field(
        "", description="Arguments that are added whenever vLLM is started for a model."
    )
    cold_model_wait_seconds: float = Field(
        0.0,
        ge=0,
        le=600,
        description="How long `curl` and older clients, which sleep on 503, are held while a model "
        "loads.",
    )
    response_cache_bytes: int = Field(64 * _MIB, description="Size of the response cache.")
    allow_anonymous_inference: bool = Field(
        True, description="Whether strangers may run public models."
    )
    trusted_proxies: str = Field(
        "",
        description="Networks, comma-separated, whose `X-Forwarded-For` says who a stranger is.",
    )
    default_model: str | None = Field(
        None,
        description="Repository id of the model that answers routes that name none: `/generate`.",
    )
    anonymous_requests_per_hour: int = Field(
        60, ge=0, description="Inference requests without a token."
    )
    free_requests_per_hour: int = Field(300, ge=0, description="Inference requests of a free user.")
    pro_requests_per_hour: int = Field(6000, ge=0, description="Inference requests of a PRO user.")
    enterprise_requests_per_hour: int = Field(
        60000, ge=0, description="Inference requests of an enterprise user."
    )
    drop_in_port: int | None = Field(
        None,
        ge=1,
        le=65535,
        description="Port of the drop-in listener, for programs that only know the public hub.",
    )
    drop_in_host: str = Field(
        "127.0.0.1", description="Address that the drop-in listener listens on."
    )
    drop_in_names: str = Field(
        "huggingface.co,router.huggingface.co,api-inference.huggingface.co,hf.co",
        description="Host names, comma-separated, that the drop-in listener answers for.",
    )
    access_log: bool = Field(False, description="Whether every request is logged.")
    log_json: bool = Field(False, description="Log lines as JSON instead of text.")

    @field_validator("trusted_proxies")
    @classmethod
    def _are_networks(cls, value: str) -> str:
        for part in filter(None, (part.strip() for part in value.split(","))):
            ip_network(part, strict=False)
        return value

    @field_validator("drop_in_names")
    @classmethod
    def _are_host_names(cls, value: str) -> str:
        names = split_names(value)
        if not names or not all(_HOST_NAME.fullmatch(name) for name in names):
            raise ValueError("must be host names with a dot in them, such as `huggingface.co`")
        return value

    @property
    def drop_in_hosts(self) -> tuple[str, ...]:
        """The names that requests may come for through the listener; none without one."""
        return split_names(self.drop_in_names) if self.drop_in_port is not None else ()

    def resolved_database_url(self) -> str:
        return self.database_url or f"sqlite:///{self.data_dir.resolve() / 'gatehouse.db'}"

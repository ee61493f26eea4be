"""The lines of a commit request: NDJSON, each line an object with `key` and `value`."""

import msgspec


class HeaderValue(msgspec.Struct):
    summary: str
    description: str = ""
    parentCommit: str | None = None  # noqa: N815  (the wire's name)


class FileValue(msgspec.Struct):
    path: str
    content: str
    encoding: str = "utf-8"


class LfsFileValue(msgspec.Struct):
    path: str
    oid: str
    algo: str = "sha256"
    size: int | None = None


class PathValue(msgspec.Struct):
    path: str


class HeaderLine(msgspec.Struct, tag_field="key", tag="header"):
    value: HeaderValue


class FileLine(msgspec.Struct, tag_field="key", tag="file"):
    value: FileValue


class LfsFileLine(msgspec.Struct, tag_field="key", tag="lfsFile"):
    value: LfsFileValue


class DeletedFileLine(msgspec.Struct, tag_field="key", tag="deletedFile"):
    value: PathValue


class DeletedFolderLine(msgspec.Struct, tag_field="key", tag="deletedFolder"):
    value: PathValue


CommitLine = HeaderLine | FileLine | LfsFileLine | DeletedFileLine | DeletedFolderLine

decoder: msgspec.json.Decoder[CommitLine] = msgspec.json.Decoder(CommitLine)

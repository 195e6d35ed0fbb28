"""Milvus: where a collection is, how it is reached, and the record that it keeps about itself.

A path that ends in `.db` is a collection of Milvus Lite, which runs in this process. A server is reached over gRPC; its
token and TLS settings come from the environment, since shells keep a history of command lines.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import urlsplit

from clipsearch.cluster.collection_rows import add_fields
from clipsearch.errors import (
    BadArgument,
    BadRequest,
    CollectionOutdated,
    IndexTooNew,
    IndexUnusable,
    first_line,
    reason,
)
from clipsearch.extras import needs
from clipsearch.paths import Collection, make_tree_private, private_folder

if TYPE_CHECKING:
    from pymilvus import MilvusClient as MilvusClient  # noqa: PLC0414  # others take it from here

FORMAT = 5
PORT = 19530
MOST = 16_384  # rows that Milvus returns at once

TOKEN, TOKEN_FILE, TLS = "CLIPSEARCH_MILVUS_TOKEN", "CLIPSEARCH_MILVUS_TOKEN_FILE", "CLIPSEARCH_MILVUS_TLS"

_PROPERTY = "clipsearch"
_SECONDS = 10.0  # to reach a server
_ESCAPES = str.maketrans({"\\": r"\\", '"': r"\"", "\n": r"\n", "\r": r"\r", "\t": r"\t"})
_OF_LITE = {"LOCK", "collections"}  # the first files of a Milvus Lite folder


class Address(NamedTuple):
    """A collection: the client's address, the database (empty for the default), the name, and what the user wrote."""

    uri: str
    database: str
    name: str
    text: str

    @property
    def is_lite(self) -> bool:
        """Whether it is a folder of Milvus Lite rather than a server's."""
        return "://" not in self.uri


class Record(NamedTuple):
    """What a collection records about itself.

    `model` is the record of the model, `identity` the name of the catalogue that was published, `origin` its location,
    as shown to people. `roots` are the indexed folders: id, path and rules. `counts` are the numbers of embeddings, of
    distinct contents, of images after OCR, of those with text and of those with a generated caption; `reads` says
    whether there was any OCR. The collection contains the photos with ids up to `filled` (None: all of them) and the
    changes numbered up to `counter`. `has_others` is true if it may also contain photos of another catalogue.
    `left_out` counts what the last scans did not look at.
    """

    model: str
    dim: int
    identity: str
    origin: str
    roots: list[list[Any]]
    counts: list[int]
    reads: bool
    counter: int
    filled: int | None
    has_others: bool = False
    left_out: dict[str, dict[str, int]] | None = None
    format: int = FORMAT


def parse(place: Collection) -> Address:
    """Raises `BadArgument` if it is no address."""
    if not place.startswith("milvus://"):
        path = Path(place).expanduser()
        return Address(str(path), "", _name(path.stem, place), place)
    parts = urlsplit(place)
    if parts.username is not None or parts.password is not None:
        raise BadArgument("index", f"must not contain a password, which others could see; use {TOKEN} or {TOKEN_FILE}")
    *database, name = [part for part in parts.path.split("/") if part] or [""]
    try:
        port = parts.port or PORT
    except ValueError:
        port = 0
    if not (parts.hostname and name and port and len(database) <= 1 and not parts.query and not parts.fragment):
        raise BadArgument("index", f"must be milvus://HOST:PORT/COLLECTION or a path that ends in .db, not {place!r}")
    scheme = "https" if os.environ.get(TLS) else "http"
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    return Address(f"{scheme}://{host}:{port}", "".join(database), _name(name, place), place)


def _name(name: str, place: str) -> str:
    if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]{0,254}", name):
        raise BadArgument("index", f"must end in the name of a collection: letters, digits and _, not {place!r}")
    return name


# ------------------------------------------------------------------------------------------ connecting


def connect(address: Address) -> MilvusClient:
    """Raises `IndexUnusable`, and `BadRequest` where the packages are missing."""
    with needs("milvus"):
        from pymilvus import MilvusClient
    logging.getLogger("pymilvus").setLevel(logging.CRITICAL + 1)  # it also logs what it raises
    if address.is_lite:
        return _lite(MilvusClient, address)
    with explained(address):
        return MilvusClient(address.uri, token=_token(), db_name=address.database, timeout=_SECONDS, **_tls())


def _lite(client: type[MilvusClient], address: Address) -> MilvusClient:
    with needs("milvus"):
        import milvus_lite
    logging.getLogger(milvus_lite.__name__).setLevel(logging.CRITICAL + 1)
    try:
        if not exists(address):
            private_folder(Path(address.uri))
        elif (names := set(os.listdir(address.uri))) and not names & _OF_LITE:
            raise IndexUnusable(f"{address.text} is a folder of other files, not a collection of Milvus Lite")
    except NotADirectoryError:
        raise IndexUnusable(f"{address.text} is a file, not a collection of Milvus Lite") from None
    except OSError as error:
        raise IndexUnusable(f"{address.text} cannot be created: {reason(error)}") from None
    with explained(address):
        return client(address.uri)


def disconnect(client: MilvusClient, address: Address) -> None:
    """Close a connection. Milvus Lite's files name every photo, and it leaves them readable to others."""
    client.close()
    if address.is_lite:
        make_tree_private(Path(address.uri))


def _token() -> str:
    file = os.environ.get(TOKEN_FILE)
    if not file:
        return os.environ.get(TOKEN, "")
    try:
        return Path(file).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        said = reason(error) if isinstance(error, OSError) else "not UTF-8"
        raise BadRequest(f"{file}, named by {TOKEN_FILE}, cannot be read: {said}") from None


def _tls() -> dict[str, Any]:
    """`CLIPSEARCH_MILVUS_TLS` is 1, or the PEM file of a certificate authority."""
    wanted = os.environ.get(TLS, "")
    if not wanted:
        return {}
    return {"secure": True} | ({} if wanted == "1" else {"server_pem_path": wanted})


@contextlib.contextmanager
def explained(address: Address) -> Iterator[None]:
    """Turn the client's errors into `IndexUnusable`."""
    from pymilvus.exceptions import MilvusException

    try:
        yield
    except MilvusException as error:
        said = " ".join(str(getattr(error, "message", "") or error).split())[:200]
        if address.is_lite and "Open local milvus failed" in said:
            said = "another process has it open, or it is not a collection of Milvus Lite"
        raise IndexUnusable(f"{address.text} cannot be used: {said}") from error
    except (OSError, ValueError, RuntimeError) as error:  # gRPC and Milvus Lite
        raise IndexUnusable(f"{address.text} cannot be used: {first_line(error)}") from error


# ------------------------------------------------------------------------------------------ the collection


def exists(address: Address) -> bool:
    """Whether a path of Milvus Lite exists: connecting would create it."""
    return Path(address.uri).exists()


def size(address: Address) -> int | None:
    """The bytes of a collection of Milvus Lite; None for a server's."""
    if not address.is_lite:
        return None
    return sum(path.stat().st_size for path in Path(address.uri).rglob("*") if path.is_file())


def create(client: MilvusClient, address: Address, record: Record) -> None:
    """Make an empty collection with exact search that sees everything written before."""
    schema = client.create_schema(auto_id=False, enable_dynamic_field=False)
    add_fields(schema, record.dim)
    index = client.prepare_index_params()
    index.add_index("row", index_type="FLAT", metric_type="IP")
    for name in ("photo", "image", "content", "path"):
        index.add_index(name, index_type="INVERTED")
    client.create_collection(
        address.name,
        schema=schema,
        index_params=index,
        num_shards=1,
        consistency_level="Strong",
        properties=_kept(record),
    )


def load(client: MilvusClient, address: Address) -> Record | None:
    """Load a collection into Milvus's memory and return its record; None if there is no collection.

    Raises `CollectionOutdated` for an older format, `IndexTooNew` for a newer one, and `IndexUnusable` for a collection
    of another program.
    """
    if not client.has_collection(address.name):
        return None
    kept = client.describe_collection(address.name).get("properties", {}).get(_PROPERTY)
    if kept is None:
        raise IndexUnusable(f"the collection {address.text} was not made by clipsearch")
    try:
        values = json.loads(kept)
        found = int(values["format"])
        record = Record(**values) if found == FORMAT else None
    except (ValueError, TypeError, KeyError):
        raise IndexUnusable(f"the record of the collection {address.text} is damaged") from None
    if record is None:
        of = f"the collection {address.text} has format {found} of"
        if found > FORMAT:
            raise IndexTooNew(f"{of} a newer clipsearch; this one knows {FORMAT}")
        raise CollectionOutdated(f"{of} an older clipsearch, and must be published again")
    client.load_collection(address.name)
    return record


def save(client: MilvusClient, address: Address, record: Record) -> None:
    """Write a collection's record."""
    client.alter_collection_properties(address.name, properties=_kept(record))


def _kept(record: Record) -> dict[str, str]:
    return {_PROPERTY: json.dumps(record._asdict())}


def every(client: MilvusClient, address: Address, expression: str, fields: Sequence[str]) -> Iterator[dict[str, Any]]:
    """All rows for which an expression is true, however many."""
    with explained(address):
        first = client.query(address.name, expression, output_fields=list(fields), limit=MOST)
        if len(first) < MOST:  # an iterator costs four requests more
            yield from first
            return
        found = client.query_iterator(address.name, batch_size=MOST, filter=expression, output_fields=list(fields))
        try:
            while part := found.next():
                yield from part
        finally:
            found.close()


def quoted(text: str) -> str:
    """A text as a literal in an expression. Milvus Lite does not know the escapes of JSON for control characters."""
    return f'"{text.translate(_ESCAPES)}"'
